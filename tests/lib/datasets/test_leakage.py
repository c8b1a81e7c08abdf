import dataclasses
import json

import pytest

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.datasets.leakage import refuse_initial_weights, seen_images
from lib.datasets.split_file import read_split
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION


def member(patient, number, data_set="a"):
    return {
        "name": f"{patient}-{number}",
        "patient": patient,
        "sha256": f"{data_set}{patient}{number}",
        "truth_fraction": None,
    }


def split(folder, **parts):
    folder.mkdir(parents=True)
    content = {part: parts.get(part, []) for part in ("train", "validation", "test")}
    (folder / "split.json").write_text(json.dumps({"how": "", "parts": content}))


def started_from(folder, experiment, weights_of):
    """Configuration of an experiment that starts from the weights of another; tests on the prepared data."""
    weights = "none" if weights_of is None else folder / weights_of / "w_best.weights.h5"
    overrides = [f"training settings.initial_weights={weights}", f"data paths.path_local={folder / 'data'}"]
    configuration = read_configuration(DEFAULT_CONFIGURATION, overrides)
    if (folder / experiment).is_dir():
        (folder / experiment / "w_configuration.txt").write_text(configuration.as_text())
    return configuration


@pytest.fixture
def folder(tmp_path):
    split(tmp_path / "data", train=[member("1", 1)], test=[member("2", 1)])
    return tmp_path


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ({"train": [member("2", 1)]}, "test image 2-1, patient 2"),
        ({"validation": [member("2", 1)]}, "test image 2-1, patient 2"),
        # Another image of the test patient; the splits share image 1-1, so that the ids are the same persons.
        ({"train": [member("1", 1), member("2", 2)]}, "test image 2-1, patient 2"),
        # The same image under another name.
        ({"train": [member("2", 1) | {"name": "x", "patient": "x"}]}, "test image 2-1"),
    ],
)
def test_weights_trained_on_a_test_patient_are_refused(folder, trained, message):
    split(folder / "before", **trained)
    with pytest.raises(UserError, match=message):
        refuse_initial_weights(started_from(folder, "now", "before"))


def test_the_same_patient_id_in_another_data_set_is_another_person(folder):
    split(folder / "before", train=[member("2", 1, "synthetic")])
    refuse_initial_weights(started_from(folder, "now", "before"))


def test_a_shared_negative_does_not_make_patients_of_two_data_sets_the_same_persons(tmp_path):
    negative = member("normal 1", 1, "public") | {"negative": True}
    split(tmp_path / "data", train=[member("1", 1), negative], test=[member("2", 1)])
    split(tmp_path / "before", train=[member("2", 1, "other"), negative])
    refuse_initial_weights(started_from(tmp_path, "now", "before"))


def test_test_images_of_the_initial_weights_may_be_test_images_again(folder):
    split(folder / "before", train=[member("1", 1)], test=[member("2", 1)])
    refuse_initial_weights(started_from(folder, "now", "before"))


def test_the_initial_weights_of_the_initial_weights_are_checked_too(folder):
    split(folder / "first", train=[member("2", 1)])
    split(folder / "second", train=[member("7", 1, "synthetic")])
    started_from(folder, "second", "first")
    with pytest.raises(UserError, match=r"first.*was trained on test images.*"):
        refuse_initial_weights(started_from(folder, "now", "second"))


def test_a_cycle_of_initial_weights_ends(folder):
    split(folder / "first", train=[member("7", 1, "synthetic")])
    started_from(folder, "first", "first")
    refuse_initial_weights(started_from(folder, "now", "first"))


def test_another_data_set_for_the_test_is_checked(folder):
    split(folder / "before", train=[member("5", 1, "other")])
    split(folder / "other", test=[member("5", 1, "other")])
    configuration = started_from(folder, "now", "before")
    refuse_initial_weights(configuration)
    paths = dataclasses.replace(configuration.data_paths, path_test=folder / "other")
    with pytest.raises(UserError, match="test image 5-1"):
        refuse_initial_weights(dataclasses.replace(configuration, data_paths=paths))


def test_weights_without_a_stored_split_are_refused(folder):
    (folder / "before").mkdir()
    with pytest.raises(UserError, match=r"before/split\.json: no such file"):
        refuse_initial_weights(started_from(folder, "now", "before"))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"parts": {"train": [{"name": "1"}]}}', '{"parts": {"train": 3}}']
)
def test_a_damaged_split_is_an_error_that_names_the_file(tmp_path, content):
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"split\.json: not a split of this program"):
        read_split(file, "a prepared folder")


def test_seen_images_are_those_of_the_training_and_of_its_initial_weights(folder):
    split(folder / "first", train=[member("8", 1, "first")], test=[member("9", 1, "first")])
    validation = [member("4", 1) | {"pixels": "pixels of 4"}]
    split(folder / "second", train=[member("1", 1)], validation=validation, test=[member("2", 1)])
    seen = seen_images(Experiment(folder / "second", "w"), started_from(folder, "second", "first"))
    assert seen == {"first81", "a11", "a41", "pixels of 4"}


def test_seen_images_are_not_known_without_a_split(folder):
    assert seen_images(Experiment(folder / "other", "w"), started_from(folder, "other", None)) == frozenset()
    split(folder / "second", train=[member("1", 1)])
    (folder / "before").mkdir()  # initial weights that were trained elsewhere
    seen = seen_images(Experiment(folder / "second", "w"), started_from(folder, "second", "before"))
    assert seen == frozenset()
