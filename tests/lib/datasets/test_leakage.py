import dataclasses
import json

import pytest

from lib.configuration.reading import read_configuration
from lib.datasets.leakage import refuse_initial_weights
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION


def member(patient, number, data_set="a"):
    return {
        "name": f"{patient}-{number}",
        "patient": patient,
        "sha256": f"{data_set}{patient}{number}",
    }


def split(folder, **parts):
    folder.mkdir(parents=True)
    content = {part: parts.get(part, []) for part in ("train", "validation", "test")}
    (folder / "split.json").write_text(json.dumps({"how": "", "parts": content}))


def beginning(folder, experiment, weights_of):
    """The experiment's own configuration, and the same to be tested on the prepared data."""
    weights = "none" if weights_of is None else folder / weights_of / "w_best.weights.h5"
    overrides = [
        f"training settings.initial_weights={weights}",
        f"data paths.path_local={folder / 'data'}",
    ]
    configuration = read_configuration(DEFAULT_CONFIGURATION, overrides)
    if (folder / experiment).is_dir():
        (folder / experiment / "w_configuration.txt").write_text(configuration.as_text())
    return configuration


@pytest.fixture
def folder(tmp_path):
    split(tmp_path / "data", train=[member("1", 1)], test=[member("2", 1)])
    return tmp_path


@pytest.mark.parametrize(
    ("learnt", "message"),
    [
        ({"train": [member("2", 1)]}, "test image 2-1, patient 2"),
        ({"validation": [member("2", 1)]}, "test image 2-1, patient 2"),
        # Another image of the test patient, in a split of the same set.
        ({"train": [member("1", 1), member("2", 2)]}, "test image 2-1, patient 2"),
        # As their file was renamed.
        ({"train": [member("2", 1) | {"name": "x", "patient": "x"}]}, "test image 2-1"),
    ],
)
def test_weights_that_have_seen_a_test_patient_are_refused(folder, learnt, message):
    split(folder / "before", **learnt)
    with pytest.raises(UserError, match=message):
        refuse_initial_weights(beginning(folder, "now", "before"))


def test_a_patient_of_the_same_name_in_another_set_is_somebody_else(folder):
    split(folder / "before", train=[member("2", 1, "synthetic")])
    refuse_initial_weights(beginning(folder, "now", "before"))


def test_images_that_the_weights_were_only_tested_on_may_be_tested_again(folder):
    split(folder / "before", train=[member("1", 1)], test=[member("2", 1)])
    refuse_initial_weights(beginning(folder, "now", "before"))


def test_weights_of_weights_count_too(folder):
    split(folder / "first", train=[member("2", 1)])
    split(folder / "second", train=[member("7", 1, "synthetic")])
    beginning(folder, "second", "first")
    with pytest.raises(UserError, match=r"first.*has seen.*"):
        refuse_initial_weights(beginning(folder, "now", "second"))


def test_weights_that_began_with_each_other_end(folder):
    split(folder / "first", train=[member("7", 1, "synthetic")])
    beginning(folder, "first", "first")
    refuse_initial_weights(beginning(folder, "now", "first"))


def test_another_set_to_be_tested_on_is_looked_at(folder):
    split(folder / "before", train=[member("5", 1, "other")])
    split(folder / "other", test=[member("5", 1, "other")])
    configuration = beginning(folder, "now", "before")
    refuse_initial_weights(configuration)
    paths = dataclasses.replace(configuration.data_paths, path_test=folder / "other")
    with pytest.raises(UserError, match="test image 5-1"):
        refuse_initial_weights(dataclasses.replace(configuration, data_paths=paths))


def test_weights_of_unknown_images_are_refused(folder):
    (folder / "before").mkdir()
    with pytest.raises(UserError, match=r"before/split\.json: no such file"):
        refuse_initial_weights(beginning(folder, "now", "before"))
