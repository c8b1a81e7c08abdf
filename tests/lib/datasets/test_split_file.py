import json

import pytest

from lib.configuration.values import Folds
from lib.datasets.patient_split import split_by_patient
from lib.datasets.split_file import PARTS, read_given_split, read_split, union_of_splits, write_split
from lib.runtime.errors import UserError
from tests.lib.datasets.test_patient_split import members


def test_a_written_split_is_read_unchanged(tmp_path):
    everyone = members([1, 2, 1, 1, 3])
    split = split_by_patient(everyone, (6, 2, 2), 3)
    write_split(tmp_path / "split.json", split, "seed 3")
    assert read_given_split(tmp_path / "split.json", everyone) == (split, "split.json: seed 3")
    assert read_split(tmp_path / "split.json", "") == split
    with pytest.raises(UserError, match=r"none\.json: no such file; expected a prepared folder"):
        read_split(tmp_path / "none.json", "a prepared folder")


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
        read_given_split(file, everyone)
    for fault in (
        "image 2-0 is named 2 times",
        "image ghost is in the split but not in the folder",
        "image 3-0 is in the folder but in no part",
        "image 1-0 has changed",
        "patient 0 is in train and validation",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"parts": 3}',
        '{"parts": {"train": [1]}}',
        '{"parts": {"train": [{"name": ["a"]}]}}',
        "[" * 100_000,
    ],
)
def test_other_content_is_refused_with_the_file_name(tmp_path, content):
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"split\.json: not a split"):
        read_given_split(file, members([1, 1, 1]))


def test_a_fold_of_a_file_of_folds_is_selected(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"source": "me", "folds": [["0-0"], ["1-0"], ["2-0", "3-0"]]}')
    split, how = read_given_split(file, members([1, 1, 1, 1]), Folds((3,), 3))
    assert [[m.name for m in split[part]] for part in PARTS] == [["1-0"], ["0-0"], ["2-0", "3-0"]]
    assert how == "mine.json: me; fold 3/3"
    with pytest.raises(UserError, match=r"contains 3 folds; select one with .* fold = 1/3"):
        read_given_split(file, members([1, 1, 1, 1]))


@pytest.mark.parametrize(
    "folds", ['[[{"name": "0-0"}], ["1-0"], ["2-0"]]', '["0-0", 3, []]', "[[1], [2], [3]]"]
)
def test_folds_that_are_no_lists_of_names_are_refused(tmp_path, folds):
    file = tmp_path / "mine.json"
    file.write_text(f'{{"folds": {folds}}}')
    with pytest.raises(UserError, match=r'mine\.json: not a split .*expected .*"folds"'):
        read_given_split(file, members([1, 1, 1]), Folds((1,), 3))


def test_a_fold_of_a_file_of_parts_is_refused(tmp_path):
    everyone = members([1, 1, 1])
    write_split(tmp_path / "split.json", split_by_patient(everyone, (1, 1, 1), 0), "mine")
    with pytest.raises(UserError, match=r"names parts, not folds; with .* fold = 1/3"):
        read_given_split(tmp_path / "split.json", everyone, Folds((1,), 3))


def test_the_union_of_splits_puts_an_image_into_the_part_that_saw_most_of_it():
    a, b, c, d = members([1, 1, 1, 1])
    first = {"train": [a], "validation": [b], "test": [c, d]}
    second = {"train": [b], "validation": [c], "test": [a, d]}
    union = {"train": [a, b], "validation": [c], "test": [d]}
    assert union_of_splits([first, second]) == union
    assert union_of_splits([first]) == first
