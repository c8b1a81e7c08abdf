import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from lib.configuration.values import Folds
from lib.datasets.patient_split import (
    comparable_name,
    differently_written,
    patient_of,
    split_by_fold,
    split_by_patient,
)
from lib.datasets.split_file import PARTS, Member
from lib.runtime.errors import UserError


def members(images_of_patients: list[int], seed: int = 0) -> list[Member]:
    generator = np.random.default_rng(seed)
    return [
        Member(f"{patient}-{image}", str(patient), f"{patient:032x}{image:032x}", generator.random())
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


def test_the_same_seed_gives_the_same_split_and_another_seed_another_one():
    everyone = members([1, 2] * 15)
    first, again, other = (split_by_patient(everyone, (6, 2, 2), s) for s in (7, 7, 8))
    assert first == again != other


def test_splits_are_those_of_earlier_versions():
    """Published scores depend on them: a change of the algorithm must be noticed."""
    everyone = members([1, 2, 1, 4, 2, 1, 1, 3, 2, 1, 1, 2])
    split = split_by_patient(everyone, (6, 2, 2), 3)
    assert [{m.patient for m in split[part]} for part in PARTS[1:]] == [{"0", "2", "8"}, {"7", "9"}]
    without_truth = [
        dataclasses.replace(m, truth_fraction=None) if m.patient in "159" else m for m in everyone
    ]
    split = split_by_fold(without_truth, Folds((2,), 5), 7)
    assert [{m.patient for m in split[part]} for part in PARTS[1:]] == [{"4", "6"}, {"2", "7", "9"}]


def test_parts_have_similar_non_perfusion():
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
        split_by_patient(members([5, 5]), (6, 1, 1), 0)
    split = split_by_patient(members([5, 5]), (8, 0, 2), 0)
    assert [len(split[part]) for part in PARTS] == [5, 0, 5]


@pytest.mark.parametrize("seed", range(3))
def test_the_sizes_of_the_parts_count_more_than_the_truth(seed):
    split = split_by_patient(members([3, 3, 3, 3, 1, 1]), (6, 2, 2), seed)
    assert [len(split[part]) for part in PARTS] == [8, 3, 3]


def test_each_part_keeps_a_patient_although_another_is_far_larger():
    split = split_by_patient(members([1, 1, 1]), (1, 1, 8), 0)
    assert [len(split[part]) for part in PARTS] == [1, 1, 1]


@given(st.lists(st.integers(1, 3), min_size=5, max_size=23), st.integers(3, 5), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_folds_test_every_image_once_and_keep_patients_together(counts, folds, seed):
    everyone = members(counts)
    tested = []
    for number in range(1, folds + 1):
        split = split_by_fold(everyone, Folds((number,), folds), seed)
        tested += [m.name for m in split["test"]]
        patients = [{m.patient for m in split[part]} for part in PARTS]
        assert all(patients)
        assert sum(map(len, patients)) == len(set.union(*patients)) == len(counts)
        following = split_by_fold(everyone, Folds((number % folds + 1,), folds), seed)
        assert split["validation"] == following["test"]
    assert sorted(tested) == sorted(m.name for m in everyone)


@given(st.lists(st.integers(1, 3), min_size=6, max_size=23), st.integers(3, 5), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_each_fold_gets_one_patient_of_each_group_of_similar_area(counts, folds, seed):
    everyone = members(counts)
    area = Counter()
    for member in everyone:
        area[member.patient] += member.truth_fraction
    ranked = [patient for patient, _ in area.most_common()]
    groups = [ranked[i : i + folds] for i in range(0, len(ranked), folds)]
    if len(groups[-1]) < folds:
        last = groups.pop()
        groups[-1] += last
    tested = [
        {m.patient for m in split_by_fold(everyone, Folds((number,), folds), seed)["test"]}
        for number in range(1, folds + 1)
    ]
    for group in groups[:-1]:
        assert [len(patients & set(group)) for patients in tested] == [1] * folds
    assert all(patients & set(groups[-1]) for patients in tested)
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


def test_the_seed_chooses_the_folds():
    everyone = members([1, 2] * 10)
    first, again, other = (split_by_fold(everyone, Folds((1,), 5), s) for s in (7, 7, 2**32 + 8))
    assert first == again != other


def test_folds_have_similar_truth():
    everyone = members([1] * 40)
    means = [
        np.mean([m.truth_fraction for m in split_by_fold(everyone, Folds((n,), 4), 0)["test"]])
        for n in (1, 2, 3, 4)
    ]
    assert np.ptp(means) < 0.1  # 10 numbers in [0, 1] each; about 0.2 for random folds


def test_as_many_folds_as_patients_are_leave_one_out_in_the_order_of_names():
    split = split_by_fold(members([2, 1, 1, 1]), Folds((1,), 4), 0)
    assert [m.name for m in split["test"]] == ["0-0", "0-1"]
    assert [m.name for m in split["validation"]] == ["1-0"]
    with pytest.raises(UserError, match=r"4 patient\(s\) cannot fill the 5 folds"):
        split_by_fold(members([2, 1, 1, 1]), Folds((1,), 5), 0)


PATTERN = re.compile(r"^([^-_]+)")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("7-2020", "7"),
        ("7\N{EN DASH}2020", "7"),
        ("7\N{EM DASH}2020", "7"),
        ("7\N{NON-BREAKING HYPHEN}2020", "7"),
        ("7\N{MINUS SIGN}2020", "7"),
        ("7\N{FULLWIDTH HYPHEN-MINUS}2020", "7"),
        ("7\N{FULLWIDTH LOW LINE}2020", "7"),
        ("\N{FULLWIDTH DIGIT SEVEN}_2020", "7"),
        ("7\N{IDEOGRAPHIC SPACE}-2020", "7"),
        ("7\N{ZERO WIDTH SPACE}-2020", "7"),
        ("\N{BYTE ORDER MARK}7-2020", "7"),
        ("Meier\N{NO-BREAK SPACE}  A-1", "meier a"),
        ("MEIER A-1", "meier a"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER P}1_1", "p1"),
        ("STRASSE-1", "strasse"),
        ("stra\N{LATIN SMALL LETTER SHARP S}e-1", "strasse"),  # lower() would keep the sharp s
        ("Jose\N{COMBINING ACUTE ACCENT}-1", "jos\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("\N{HALFWIDTH KATAKANA LETTER KA}-1", "\N{KATAKANA LETTER KA}"),
        ("眼-1", "眼"),
        (" -1", ""),
        ("-1", ""),
    ],
)
def test_a_patient_is_the_same_in_each_way_of_writing(name, patient):
    assert patient_of(name, PATTERN) == patient


def test_different_patients_stay_different():
    names = (
        "7",
        "7a",
        "a 7",
        "7.1",
        "17",
        "é",
        "e",
        "眼",
        "P1",
        "P 1",
        "7\N{KATAKANA-HIRAGANA PROLONGED SOUND MARK}",
    )
    assert len({comparable_name(name) for name in names}) == len(names)


def test_the_pattern_is_searched_in_the_name_too():
    assert patient_of("７＿A＿2020", re.compile("^(.+?)＿A")) == "7"
    assert patient_of("P7-1", re.compile("^([A-Z][0-9])-")) == "p7", "the case of the pattern holds"
    assert patient_of("７1 x", re.compile(r"^(\d+) ")) == "71"


def test_a_group_that_is_not_in_the_name_is_no_patient():
    pattern = re.compile("^(P[0-9])?-")
    assert [patient_of(name, pattern) for name in ("P1-1", "-1", "x")] == ["p1", "", ""]
    assert differently_written(["P1-1", "-1", "x"], pattern) == []
    digits = re.compile("^([0-9]+)-")
    assert differently_written(["7\N{EN DASH}3", "7-1", "8-1", "8-2"], digits) == [
        "one patient, 7, although written differently: 7\N{EN DASH}3, 7-1"
    ]


def test_patients_that_are_written_in_several_ways_are_named():
    names = ["7-1", "7-2", "7\N{EN DASH}3", "8-1", "P9_1", "p9_2", "p9_3"]
    assert differently_written(names, PATTERN) == [
        "one patient, 7, although written differently: 7-1, 7\N{EN DASH}3",
        "one patient, p9, although written differently: P9_1, p9_2",
    ]
