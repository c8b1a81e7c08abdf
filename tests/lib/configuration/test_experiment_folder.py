import json

import pytest

from lib.configuration.experiment_folder import (
    Experiment,
    experiment_named,
    refuse_other_split,
    settings_not_used,
)
from lib.configuration.reading import read_configuration
from lib.configuration.sections import TESTED_FOLDER
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from tests.conftest import tiny_configuration

PARTS = {"parts": {"train": [], "validation": [], "test": []}}


@pytest.fixture
def trained(tmp_path):
    """Configuration and experiment with the same split in both folders."""
    configuration = tiny_configuration(tmp_path)
    experiment = Experiment.of(configuration)
    for file in (configuration.data_paths.split, experiment.split):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(PARTS))
    return configuration, experiment


def test_an_experiment_is_found_although_the_settings_do_not_fit_the_configuration_that_names_it(tmp_path):
    overrides = [f"experiment name.path_experiments={tmp_path}"]
    overrides.append("testing settings.test_field_of_view_degrees=30")  # configuration.txt has no diameter
    with pytest.raises(UserError, match=r"found no \[preprocessing\] field_of_view_diameter"):
        read_configuration(DEFAULT_CONFIGURATION, overrides)
    assert experiment_named(DEFAULT_CONFIGURATION, overrides, "a").folder == tmp_path / "a"


def test_settings_that_were_edited_after_the_training_and_are_not_used_are_named(trained, tmp_path):
    configuration, experiment = trained
    experiment.configuration.write_text(configuration.as_text())
    edited = tmp_path / "my.txt"
    window = configuration.testing_settings.window
    text = configuration.as_text().replace("figure_formats = png", "figure_formats = pdf")
    edited.write_text(text)
    assert settings_not_used(experiment, edited, []) == ""  # it changes no prediction
    edited.write_text(text.replace(f"window = {window}", "window = whole"))
    assert settings_not_used(experiment, edited, []).endswith(
        f"testing settings.window=whole, used is {window}. To use those of the file: "
        '--set "testing settings.window=whole"'
    )
    assert settings_not_used(experiment, edited, ["testing settings.window=whole"]) == ""
    assert settings_not_used(experiment, edited, ["testing settings.window=tiles"]) == ""
    assert settings_not_used(experiment, edited, ["testing settings.average_mode=True"]) == ""
    folder = experiment.folder.parent
    unnamed = [line for line in text.splitlines() if not line.startswith("name = ")]
    edited.write_text("\n".join(unnamed).replace("logit_shift = 0", "logit_shift = 0.0"))
    names = [f"experiment name.path_experiments={folder}", f"experiment name.name={experiment.name}"]
    assert settings_not_used(experiment, edited, names) == ""
    assert settings_not_used(Experiment(experiment.folder, "other"), experiment.configuration, []) == ""


def test_the_same_split_is_accepted_and_another_one_refused(trained):
    configuration, experiment = trained
    refuse_other_split(experiment, configuration)
    configuration.data_paths.split.write_text(json.dumps({"parts": {"train": [{"name": "1"}]}}))
    with pytest.raises(UserError, match="was trained on another split"):
        refuse_other_split(experiment, configuration)


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_truncated_split_is_an_error_of_one_line(trained, damaged):
    configuration, experiment = trained
    file = (configuration.data_paths.split, experiment.split)[damaged]
    file.write_text(file.read_text()[:-9])
    with pytest.raises(UserError) as error:
        refuse_other_split(experiment, configuration)
    assert str(error.value).startswith(f"{file}: cannot be read (") and "\n" not in str(error.value)


def test_a_truncated_record_of_a_training_is_an_error_of_one_line(trained):
    _, experiment = trained
    experiment.versions.write_text('{"parameters": 1')
    with pytest.raises(UserError, match=r"tiny_versions\.json: cannot be read"):
        experiment.training_record()


def test_a_new_training_removes_the_curves_in_all_formats_and_no_file_of_a_person(trained):
    _, experiment = trained
    curves = {f"{name}.{ending}" for name in ("ROC", "Precision_recall") for ending in ("png", "pdf", "svg")}
    for name in {*curves, "notes.pdf", "my_figure.svg"}:
        (experiment.folder / name).touch()
    experiment.clear()
    assert {file.name for file in experiment.folder.iterdir()} == {"notes.pdf", "my_figure.svg", "split.json"}


@pytest.mark.parametrize("content", ["epoch;loss\n1;0.5\n", "epoch,loss\n1\n", "epoch,loss\n1,2,3\n"])
def test_a_history_that_was_changed_is_an_error_of_one_line(trained, content):
    _, experiment = trained
    experiment.history_file.write_text(content)
    with pytest.raises(
        UserError, match=r"^[^\n]*history\.csv: not as run_training\.py wrote it [^\n]*--fresh$"
    ):
        experiment.history()


def test_a_training_that_begins_leaves_the_temporary_files_of_a_running_test(trained):
    _, experiment = trained
    with written_atomically(experiment.file("_overlay0.png")) as (beside,):
        beside.touch()
        abandoned = experiment.folder / ".1-learning_curves.png"
        abandoned.touch()
        experiment.remove_unfinished()
        assert not abandoned.exists()
    assert experiment.file("_overlay0.png").is_file()


def test_results_on_two_folders_of_one_name_are_in_two_folders(tmp_path):
    first, second = (
        tiny_configuration(tmp_path, f"data paths.path_test={tmp_path / name / 'datasets'}") for name in "ab"
    )
    folder = first.experiment_name.folder
    assert tiny_configuration(tmp_path).results_folder == folder
    assert first.results_folder == second.results_folder == folder / "on_datasets"
    (folder / "on_datasets").mkdir(parents=True)
    (folder / "on_datasets" / "tiny_testing.nohup").touch()
    assert second.results_folder == folder / "on_datasets", "the log file of the test that begins"
    (folder / "on_datasets" / TESTED_FOLDER).write_text(f"{first.tested_folder}\n")
    assert first.results_folder == folder / "on_datasets"
    assert second.results_folder.parent == folder
    assert second.results_folder.name.startswith("on_datasets_")


@pytest.mark.parametrize("file", ["tiny_predictions.hdf5", "performances.json", "ROC.png"])
def test_results_of_an_earlier_version_are_kept_since_their_folder_is_unknown(tmp_path, file):
    configuration = tiny_configuration(tmp_path, f"data paths.path_test={tmp_path / 'a' / 'datasets'}")
    earlier = configuration.experiment_name.folder / "on_datasets"
    earlier.mkdir(parents=True)
    (earlier / file).touch()
    results = configuration.results_folder
    assert results.parent == earlier.parent and results.name.startswith("on_datasets_")


def test_results_on_another_folder_are_found_after_all_folders_were_moved(tmp_path):
    names = []
    for place in (tmp_path / "here", tmp_path / "there"):
        configuration = tiny_configuration(place, f"data paths.path_test={place / 'a' / 'datasets'}")
        names.append(configuration.tested_folder)
    assert names[0] == names[1]
