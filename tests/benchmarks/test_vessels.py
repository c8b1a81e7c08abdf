import json

import pytest

from benchmarks.vessels import (
    FIGURES,
    IDENTITY,
    PAGE,
    _refuse_stale_test,
    data_set_and_split,
    table,
    with_new,
)
from lib.configuration.experiment_folder import Experiment
from lib.runtime.errors import UserError


def figure(network, auc_roc, **changes):
    same = dict.fromkeys(IDENTITY, "") | {
        "seconds_an_image": None,
        "training_minutes": 9.5,
        "date": "",
        "f1": 0.8,
    }
    return same | {"network": network, "auc_roc": auc_roc} | changes


def test_a_new_figure_replaces_only_that_of_the_same_identity():
    earlier = [figure("b", 0.1), figure("a", 0.2), figure("a", 0.3, counted="whole_image")]
    found = with_new(earlier, [figure("a", 0.9)])
    assert [(one["network"], one["auc_roc"]) for one in found] == [("a", 0.9), ("a", 0.3), ("b", 0.1)]


def test_the_error_for_a_split_of_other_images():
    with pytest.raises(UserError, match="split clinic_1: expected a split of DRIVE, STARE or CHASE_DB1"):
        data_set_and_split("clinic_1")


def test_the_page_shows_the_table_of_the_stored_figures():
    assert table(json.loads(FIGURES.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("epochs", "images", "stale"), [("2", 2, False), ("1", 2, True), ("2", 1, True)])
def test_scores_of_an_earlier_epoch_or_of_some_images_are_refused(tmp_path, epochs, images, stale):
    experiment = Experiment(tmp_path, "a")
    experiment.performances.write_text(json.dumps({"context": {"epochs": f"{epochs} trained, of at most 2"}}))
    (tmp_path / "per_image.csv").write_text("image\n" + "1\n" * images)
    experiment.split.write_text(json.dumps({"parts": {"test": [{"name": "1"}, {"name": "2"}]}}))
    _refuse_stale_test(experiment)  # imported weights
    experiment.history_file.write_text("epoch,loss\n1,0.5\n2,0.4\n")
    if stale:
        with pytest.raises(UserError, match=f"tested {images} of 2 images with {epochs} of 2 epochs"):
            _refuse_stale_test(experiment)
    else:
        _refuse_stale_test(experiment)
