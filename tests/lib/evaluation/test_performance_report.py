import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lib.evaluation.measures.image_measures import MEASURES
from lib.evaluation.performance_report import (
    ICC_INTERVAL,
    is_test_of,
    performances_text,
    read_performances,
    write_performances,
)
from lib.evaluation.pixel_scores import RATES
from lib.evaluation.scoring import PredictedImage, evaluate
from tests.conftest import tiny_configuration

CONTEXT = {"threshold": "0.5 (configuration)", "network": "laddernet", "weights": "FFA_best"}


def predicted(name, probability, truth):
    probability = np.array(probability, np.float32)
    return PredictedImage(
        name=name,
        patient=name.split("-")[0],
        probability=probability,
        truth=np.array(truth, np.uint8),
        field_of_view=np.array([[1, 1, 0]], np.uint8),
        original=np.array([[10, 200, 30]], np.uint8),
    )


@pytest.fixture
def evaluation():
    return evaluate(
        [
            predicted("2-1, 患者 016", [[0.9, 0.2, 0.1]], [[1, 0, 0]]),
            predicted("3-1 018", [[0.6, 0.3, 0.1]], [[0, 0, 0]]),
        ],
        0.5,
        0.4,
    )


def test_text_has_the_lines_of_retina_unet(evaluation):
    lines = performances_text(evaluation, CONTEXT).splitlines()
    assert lines[0] == "FOV pixels pooled over 2 test images"
    # FOV pixels: .9+ .2- .6- .3-
    for line in (
        "threshold: 0.5 (configuration)",
        "Area under the ROC curve: 1.0000",
        "Area under Precision-Recall curve: 1.0000",
        "F1 score (F-measure): 0.6667",
        "ACCURACY: 0.7500",
        "SENSITIVITY: 1.0000",
        "SPECIFICITY: 0.6667",
        "PRECISION: 0.5000",
    ):
        assert line in lines
    assert any(
        line.startswith("Jaccard similarity score: 0.5000") and "TP / (TP + FP + FN)" in line
        for line in lines
    )
    assert any(line.startswith("Confusion matrix: [[2 1] [0 1]]") for line in lines)


def test_text_shows_the_baselines_and_counts_undefined_images(evaluation):
    lines = performances_text(evaluation, CONTEXT).splitlines()
    rows = [line.split() for line in lines]
    # An image 3 pixels wide blurs to one grey, about 80: darkness .68, all of it over .4.
    assert ["Accuracy", "0.7500", "0.8333", "0.2500", "0.7500"] in rows
    assert ["Precision", "0.5000", "0.5000", "0.2500", "n/a"] in rows
    assert ["Pixels", "4", "6", "4", "4"] in rows
    assert ["AUC-ROC", "1.0000", "±", "n/a", "1", "of", "2"] in rows
    assert ["Accuracy", "0.7500", "±", "0.3536", "2", "of", "2"] in rows


def test_json_reads_back_and_has_null_for_undefined(tmp_path, evaluation):
    write_performances(tmp_path / "new", evaluation, CONTEXT)

    def refuse(constant):
        raise AssertionError(f"not JSON: {constant}")

    text = (tmp_path / "new" / "performances.json").read_text(encoding="utf-8")
    data = json.loads(text, parse_constant=refuse)
    assert data["context"] == CONTEXT
    assert data["network_in_field_of_view"]["true_negatives"] == 2
    assert data["network_in_field_of_view"]["f1"] == evaluation.in_field_of_view.f1
    assert data["all_background_in_field_of_view"]["precision"] is None
    assert data["per_image"][0]["name"] == "2-1, 患者 016"
    assert data["per_image"][1]["scores"]["auc_roc"] is None
    measures = data["measures"]
    assert set(measures) == {*MEASURES, *ICC_INTERVAL}
    # The first image is predicted exactly; the second has a false area in half of its field of view.
    assert (measures["nsd_2_px"], measures["hd95_px"]) == (0.5, 10**0.5 / 2)
    assert (measures["area_f1"], measures["false_areas"], measures["index_mae"]) == (2 / 3, 0.5, 0.25)
    assert measures["presence_auc"] == 0.5
    assert measures["area_f1_small"] is None
    read = read_performances(tmp_path / "new" / "performances.json")
    assert read.per_image == evaluation.per_image
    assert data["averages_over_images"]["auc_roc"] == {"mean": 1.0, "standard_deviation": None, "images": 1}


def test_table_has_one_row_an_image(tmp_path, evaluation):
    write_performances(tmp_path, evaluation, CONTEXT)
    with (tmp_path / "per_image.csv").open(encoding="utf-8-sig", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["name"], first["patient"]) == ("2-1, 患者 016", "2")
    assert set(RATES) <= set(first)
    assert (first["f1"], first["true_positives"], first["pixels"]) == ("1.0", "1", "2")
    assert (second["auc_roc"], second["accuracy"]) == ("n/a", "0.5")
    assert (first["nsd_2_px"], second["nsd_2_px"], second["index"]) == ("1.0", "0.0", "0.5")
    assert (first["areas_found"], second["areas_found"], second["areas_false"]) == ("1", "0", "1")


def test_the_text_has_the_measures_that_are_defined(evaluation):
    rows = [line.split("  ") for line in performances_text(evaluation, CONTEXT).splitlines()]
    shown = {row[0]: row[-1].strip() for row in rows}
    assert shown["F1 of areas"] == "0.6667" and shown["Index: mean absolute error"] == "0.2500"
    assert "95 % interval of ICC(2,1)" in shown and "F1 of small areas" not in shown
    assert "NSD, tolerance 2 pixels" in shown
    empty = predicted("4-1", [[0.1, 0.2, 0.3]], [[0, 0, 0]])  # no boundary
    text = performances_text(
        evaluate([empty, predicted("2-1", [[0.9, 0.2, 0.1]], [[1, 0, 0]])], 0.5), CONTEXT
    )
    assert "NSD, tolerance 2 pixels, mean of 1 of 2 images" in text and "HD95, pixels, mean of 1 of" in text


def test_scores_of_other_images_are_not_those_of_a_run(prepared, tested, tmp_path):
    configuration, experiment, _ = tested
    there = shutil.copytree(configuration.data_paths.path_local, tmp_path / "there")
    paths = dataclasses.replace(configuration.data_paths, path_test=there)
    moved = dataclasses.replace(configuration, data_paths=paths)
    file = Path(shutil.copy(experiment.performances, tmp_path))
    epochs = len(experiment.history())
    assert is_test_of(file, moved, epochs) and not is_test_of(file, moved, epochs + 1)
    (there / "split.json").write_text((there / "split.json").read_text() + " ")  # prepared again
    assert not is_test_of(file, moved, epochs)
    (there / "split.json").unlink()
    assert is_test_of(file, moved, epochs)  # the images were deleted
    shutil.copy(configuration.data_paths.split, there)
    content = json.loads(file.read_text())
    content["context"]["tested split"] += "0"
    file.write_text(json.dumps(content))
    assert not is_test_of(file, moved, epochs)
    del content["context"]["tested split"]
    file.write_text(json.dumps(content))
    assert is_test_of(file, moved, epochs)  # of an earlier version, which did not name the images
    ignoring = tiny_configuration(prepared, "training settings.loss_in_FOV=True")
    content["context"]["settings"] = f"SHA-256 {ignoring.score_sha256}"
    file.write_text(json.dumps(content))
    assert is_test_of(file, ignoring, epochs)
    del content["context"]["outside the field of view"]  # earlier versions did not set it to 0
    file.write_text(json.dumps(content))
    assert not is_test_of(file, ignoring, epochs)
    deleted = dataclasses.replace(ignoring.data_paths, path_test=tmp_path / "deleted")
    assert is_test_of(file, dataclasses.replace(ignoring, data_paths=deleted), epochs)


def test_scores_of_an_earlier_version_are_read_and_have_no_measures(tmp_path, evaluation):
    write_performances(tmp_path, evaluation, CONTEXT)
    file = tmp_path / "performances.json"
    content = json.loads(file.read_text())
    del content["measures"]
    for image in content["per_image"]:
        del image["measures"]
    file.write_text(json.dumps(content))
    read = read_performances(file)
    assert [image.scores for image in read.per_image] == [image.scores for image in evaluation.per_image]
    assert "NSD" not in performances_text(read, CONTEXT)
    write_performances(tmp_path, read, CONTEXT)  # without measures


def test_a_report_that_fails_leaves_nothing(tmp_path, evaluation):
    with pytest.raises(TypeError):
        write_performances(tmp_path, evaluation, {"weights": object()})
    assert list(tmp_path.iterdir()) == []
