import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from lib.datasets.patient_split import (
    PARTS,
    Member,
    given_split,
    split_by_fold,
    split_by_patient,
    write_split,
)
from lib.runtime.errors import UserError


def members(images_of_patients: list[int], seed: int = 0) -> list[Member]:
    generator = np.random.default_rng(seed)
    return [
        Member(
            f"{patient}-{image}", str(patient), f"{patient:032x}{image:032x}", generator.random()
        )
        for patient, number in enumerate(images_of_patients)
        for image in range(number)
    ]


@given(st.lists(st.integers(1, 4), min_size=3, max_size=25), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_every_image_is_in_one_part_and_every_patient_in_one(counts, seed):
    everyone = members(counts)
    split = split_by_patient(everyone, (6, 2, 2), seed)
    assert sorted(m.name for part in PARTS for m in split[part]) == sorted(m.name for m in everyone)
    patients = [{m.patient for m in split[part]} for part in PARTS]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_single_images_are_split_exactly():
    split = split_by_patient(members([1] * 20), (6, 2, 2), 1)
    assert [len(split[part]) for part in PARTS] == [12, 4, 4]


def test_the_same_seed_gives_the_same_split_and_another_another():
    everyone = members([1, 2] * 15)
    first, again, other = (split_by_patient(everyone, (6, 2, 2), s) for s in (7, 7, 8))
    assert first == again != other


def test_parts_are_alike_in_non_perfusion():
    differences = []
    for seed in range(5):
        split = split_by_patient(members([1] * 30, seed), (6, 2, 2), seed)
        fractions = [[m.truth_fraction for m in split[p]] for p in PARTS]
        differences += [ks_2samp(fractions[0], other).statistic for other in fractions[1:]]
    assert np.median(differences) < 0.28  # random parts of these sizes: about 0.33


def test_a_part_of_share_zero_stays_empty_and_too_few_patients_are_named():
    split = split_by_patient(members([2, 1, 1]), (8, 0, 2), 0)
    assert split["validation"] == [] and split["test"]
    with pytest.raises(UserError, match=r"2 patient\(s\) cannot fill 3 parts"):
        split_by_patient(members([5, 5]), (6, 2, 2), 0)


def test_a_written_split_is_read_again(tmp_path):
    everyone = members([1, 2, 1, 1, 3])
    split = split_by_patient(everyone, (6, 2, 2), 3)
    write_split(tmp_path / "split.json", split, "seed 3")
    assert given_split(tmp_path / "split.json", everyone) == (split, "split.json: seed 3")


def test_a_given_split_that_does_not_fit_lists_every_fault(tmp_path):
    everyone = members([2, 1, 1, 1])
    content = {
        "parts": {
            "train": [{"name": "0-0"}, {"name": "1-0", "sha256": "0" * 64}],
            "validation": [{"name": "0-1"}, {"name": "ghost"}],
            "test": [{"name": "2-0"}, {"name": "2-0"}],
        }
    }
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        given_split(file, everyone)
    for fault in (
        "image 2-0 is named 2 times",
        "image ghost is in the split but not in the folder",
        "image 3-0 is in the folder but in no part",
        "image 1-0 has changed",
        "patient 0 is in train and validation",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"parts": 3}', '{"parts": {"train": [1]}}', "[" * 100_000]
)
def test_what_is_no_split_is_named(tmp_path, content):
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"split\.json: not a split"):
        given_split(file, members([1, 1, 1]))


@given(st.lists(st.integers(1, 3), min_size=5, max_size=23), st.integers(3, 5), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_folds_test_every_image_once_and_part_no_patient(counts, folds, seed):
    everyone = members(counts)
    tested = []
    for number in range(1, folds + 1):
        split = split_by_fold(everyone, (number, folds), seed)
        tested += [m.name for m in split["test"]]
        patients = [{m.patient for m in split[part]} for part in PARTS]
        assert all(patients)
        assert sum(map(len, patients)) == len(set.union(*patients)) == len(counts)
        following = split_by_fold(everyone, (number % folds + 1, folds), seed)
        assert split["validation"] == following["test"]
    assert sorted(tested) == sorted(m.name for m in everyone)


def test_folds_are_alike_in_truth():
    everyone = members([1] * 40)
    means = [
        np.mean([m.truth_fraction for m in split_by_fold(everyone, (n, 4), 0)["test"]])
        for n in (1, 2, 3, 4)
    ]
    assert np.ptp(means) < 0.1  # of 10 numbers in [0, 1] each; at random about 0.2


def test_as_many_folds_as_patients_leave_one_out_in_the_order_of_names():
    split = split_by_fold(members([2, 1, 1, 1]), (1, 4), 0)
    assert [m.name for m in split["test"]] == ["0-0", "0-1"]
    assert [m.name for m in split["validation"]] == ["1-0"]
    with pytest.raises(UserError, match=r"4 patient\(s\) cannot fill the 5 folds"):
        split_by_fold(members([2, 1, 1, 1]), (1, 5), 0)


def test_a_file_of_folds_is_chosen_from(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"source": "me", "folds": [["0-0"], ["1-0"], ["2-0", "3-0"]]}')
    split, how = given_split(file, members([1, 1, 1, 1]), (3, 3))
    assert [[m.name for m in split[part]] for part in PARTS] == [["1-0"], ["0-0"], ["2-0", "3-0"]]
    assert how == "mine.json: me; fold 3/3"
    with pytest.raises(UserError, match=r"holds 3 folds; choose one with .* fold = 1/3"):
        given_split(file, members([1, 1, 1, 1]))


def test_a_fold_of_a_file_of_parts_is_refused(tmp_path):
    everyone = members([1, 1, 1])
    write_split(tmp_path / "split.json", split_by_patient(everyone, (1, 1, 1), 0), "mine")
    with pytest.raises(UserError, match=r"names parts, not folds; with .* fold = 1/3"):
        given_split(tmp_path / "split.json", everyone, (1, 3))
