import csv
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from itertools import chain

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from lib.configuration.folder_lock import results_lock
from lib.datasets.ffa import prepare
from lib.datasets.leakage import refuse_images_seen
from lib.datasets.prepared_hdf5 import read_part
from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
from lib.evaluation.performance_report import read_performances, write_performances
from lib.evaluation.predicted_images import read_predictions
from lib.evaluation.scoring import PredictedImage, evaluate
from lib.evaluation.test_run import draw_curves, score_and_draw
from lib.evaluation.test_run import test as run_test
from lib.evaluation.test_run import test_exported as run_exported
from lib.images.checked_files import file_sha256
from lib.networks.from_experiments import read_keras_network
from lib.networks.onnx_export import export
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.training.train import train
from run_testing import configuration_of_export
from tests.conftest import tiny_configuration, tiny_settings

PICTURES = ["ROC", "Precision_recall", "all_originals", "all_groundTruths", "all_predictions"]


def test_everything_promised_is_left_in_the_folder(tested):
    _configuration, experiment, evaluation = tested
    number = len(evaluation.per_image)
    names = [f"{name}.png" for name in PICTURES]
    names += [f"tested_Original_GroundTruth_Prediction{i}.png" for i in range(number)]
    names += [f"tested_overlay{i}.png" for i in range(number)]
    for name in names:
        with Image.open(experiment.folder / name) as picture:
            picture.verify()
    assert "Area under the ROC curve" in (experiment.folder / "performances.txt").read_text()
    with (experiment.folder / "per_image.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == number
    scores = json.loads((experiment.folder / "performances.json").read_text())
    assert scores["context"]["threshold"].endswith("(best F1 on the validation images)")


def test_vessels_are_tested_without_areas(tested):
    configuration, experiment, evaluation = tested
    assert all(image.measures.areas for image in evaluation.per_image)
    vessels = dataclasses.replace(configuration.data_attributes, structure="vessels")
    of_vessels = score_and_draw(
        experiment, dataclasses.replace(configuration, data_attributes=vessels), evaluation.threshold, None
    )
    assert [image.measures.areas for image in of_vessels.per_image] == [None] * len(of_vessels.per_image)
    assert "tolerances of NSD" not in (experiment.folder / "performances.txt").read_text()


def test_scores_are_those_of_scikit_learn_on_predictions_made_here(tested):
    configuration, experiment, evaluation = tested
    from lib.images.preprocessing import preprocess
    from lib.networks.keras_model import build_model

    model = build_model(configuration)
    model.load_weights(experiment.weights("best"))
    truth, scores = [], []
    for image in read_part(configuration.data_paths.hdf5("test")):
        levels = preprocess(image.original, image.field_of_view, configuration.preprocessing)
        total, covered = np.zeros((2, 128, 128))
        for row in (0, 40, 64):
            for column in (0, 40, 64):
                window = (slice(row, row + 64), slice(column, column + 64))
                patch = levels[window].astype(np.float32)[None] / 255
                total[window] += np.asarray(model(patch))[0, ..., 0]
                covered[window] += 1
        inside = image.field_of_view > 0
        truth.append(image.truth[inside])
        scores.append((total / covered)[inside])
    truth, scores = np.concatenate(truth), np.concatenate(scores)
    found = evaluation.in_field_of_view
    assert found.auc_roc == pytest.approx(roc_auc_score(truth, scores), abs=1e-4)
    assert found.auc_pr == pytest.approx(average_precision_score(truth, scores), abs=1e-4)
    assert found.pixels == truth.size


def test_outside_the_field_of_view_is_0_if_the_loss_ignored_it(prepared, tested, tmp_path):
    _, experiment, _ = tested
    folder = shutil.copytree(experiment.folder, tmp_path / "tested")
    own = folder / experiment.configuration.name
    own.write_text(own.read_text().replace("loss_in_FOV = False", "loss_in_FOV = True"))
    settings = ["experiment name.name=tested", f"experiment name.path_experiments={tmp_path}"]
    run_test(tiny_configuration(prepared, *settings))
    predicted = read_predictions(experiment.predictions)
    for raw, case in zip(predicted, read_predictions(folder / experiment.predictions.name), strict=True):
        outside = raw.field_of_view == 0
        assert raw.probability[outside].any() and not case.probability[outside].any()
        np.testing.assert_allclose(case.probability[~outside], raw.probability[~outside], atol=1e-6)


def test_half_the_bits_give_nearly_the_same_scores_and_testing_says_which_it_took(prepared, capsys):
    def tiny(precision):
        return tiny_configuration(
            prepared,
            "experiment name.name=precise",
            f"testing settings.precision={precision}",
            "testing settings.pixel_spacing_mm=0.01",
            "preprocessing.field_of_view_diameter=120",
            "testing settings.training_field_of_view_degrees=45",
            "testing settings.test_field_of_view_degrees=37.5",
        )

    experiment = train(tiny("float32"))
    found = {}
    for precision in ("float32", "mixed_bfloat16"):
        found[precision] = run_test(tiny(precision)).in_field_of_view.auc_roc
        context = json.loads((experiment.folder / "performances.json").read_text())["context"]
        assert f" in {precision}, " in context["prediction"]
        assert context["tolerances of NSD"].startswith("0.02, 0.05, 0.1 mm, at 0.01 mm a pixel")
        assert context["field of view"] == "37.5 degrees, in the training 45"
    assert found["float32"] != found["mixed_bfloat16"]
    assert found["float32"] == pytest.approx(found["mixed_bfloat16"], abs=0.005)
    run_test(tiny("auto"))
    said = capsys.readouterr().out
    _, model = read_keras_network(experiment, ["testing settings.precision=auto"])
    policies = {layer.dtype_policy.name for layer in model.layers} - {"float32"}
    assert policies == {said.partition("precision: ")[2].split(";")[0]} - {"float32"}


def test_an_untrained_or_otherwise_trained_network_is_refused(prepared, tested):
    with pytest.raises(UserError, match=r"no trained experiment nobody \(.*; trained .*\btested"):
        run_test(tiny_configuration(prepared, "experiment name.name=nobody"))
    with pytest.raises(UserError, match=r"\[preprocessing\] gamma = 1\.1, trained with 0\.8"):
        run_test(tiny_configuration(prepared, "experiment name.name=tested", "preprocessing.gamma=1.1"))


def test_a_network_of_another_structure_is_refused(prepared, tested):
    settings = ["experiment name.name=tested", "data attributes.structure=vessels"]
    with pytest.raises(UserError, match=r"tested: outlines CNP, but \[data attributes\] structure = vessels"):
        run_test(tiny_configuration(prepared, *settings))


@pytest.mark.parametrize(
    ("part", "message"),
    [("test", "has no test part: prepare again"), ("validation", "no validation part, which chooses thresh")],
)
def test_a_missing_part_is_named(prepared, tested, tmp_path, part, message):
    there = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    (there / f"FFA_dataset_imgs_{part}.hdf5").unlink()
    settings = ["experiment name.name=tested", f"data paths.path_local={there}"]
    with pytest.raises(UserError, match=message):
        run_test(tiny_configuration(prepared, *settings, "testing settings.threshold=validation"))


def test_weights_of_another_network_are_refused_by_name(prepared, tested):
    _, experiment, _ = tested
    other = train(
        tiny_configuration(
            prepared, "experiment name.name=other", "model.filters=4 6", "training settings.N_epochs=1"
        )
    )
    shutil.copy(experiment.weights("best"), other.weights("best"))
    with pytest.raises(UserError, match=r"other_best\.weights\.h5: not the weights"):
        run_test(tiny_configuration(prepared, "experiment name.name=other", "model.filters=4 6"))


def test_an_exported_network_has_the_scores_of_its_experiment(prepared, tested, tmp_path):
    configuration, experiment, evaluation = tested
    file = export([experiment], [], tmp_path / "given.onnx")
    overrides = [*tiny_settings(prepared), "testing settings.threshold=0.9"]  # the file has its own threshold
    of_export = configuration_of_export(PROJECT / "configurations" / "demo.txt", overrides, file)
    assert of_export.results_folder.parent.name == f"given_{file_sha256(file)[:8]}"
    found = run_exported(of_export, file)
    ours, theirs = found.in_field_of_view, evaluation.in_field_of_view
    assert found.threshold == evaluation.threshold
    assert ours.auc_roc == pytest.approx(theirs.auc_roc, abs=1e-4)
    assert ours.f1 == pytest.approx(theirs.f1, abs=1e-3)
    context = json.loads((of_export.results_folder / "performances.json").read_text())["context"]
    assert context["training images"] == "known; no test image is one of them"
    predicted = list(
        read_predictions(of_export.results_folder / f"{of_export.experiment_name.name}_predictions.hdf5")
    )
    assert predicted and not any(case.probability[case.field_of_view == 0].any() for case in predicted)
    assert context["threshold"].endswith("(best F1 on the validation images, given.onnx)")
    vessels = dataclasses.replace(configuration.data_attributes, structure="vessels")
    with pytest.raises(UserError, match=r"given\.onnx: outlines CNP, but .* structure = vessels"):
        run_exported(dataclasses.replace(of_export, data_attributes=vessels), file)


@pytest.mark.parametrize("listed", ["in the split", "in the HDF5 files", "by its patient"])
def test_an_exported_network_that_was_trained_on_a_test_image_is_refused(prepared, tested, tmp_path, listed):
    _configuration, experiment, _ = tested
    file = export([experiment], [], tmp_path / "given.onnx")
    mixed = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    split = json.loads((mixed / "split.json").read_text())
    moved = dict(split["parts"]["train"][0])
    if listed == "in the HDF5 files":
        for kind in ("imgs", "groundTruth", "borderMasks"):
            shutil.copy(mixed / f"FFA_dataset_{kind}_train.hdf5", mixed / f"FFA_dataset_{kind}_test.hdf5")
        split["parts"]["test"] = [
            {**member, "sha256": "", "pixels": ""} for member in split["parts"]["train"]
        ]
    elif listed == "in the split":
        split["parts"]["test"].append(moved)
    else:  # another image of the patient; the split of the training is beside the file
        split["parts"]["test"].append(moved | {"name": "later", "sha256": "a" * 64, "pixels": "b" * 64})
        moved["name"] = "later"
        shutil.copy(experiment.split, tmp_path / "split.json")
    (mixed / "split.json").write_text(json.dumps(split))
    of_export = tiny_configuration(prepared, f"data paths.path_test={mixed}")
    with pytest.raises(UserError, match=rf"(?s)trained on test images or their patients.*{moved['name']}"):
        run_exported(of_export, file)


@pytest.mark.parametrize("same_set", [True, False])
def test_patients_are_said_to_be_compared_only_with_a_split_of_the_same_set(tested, tmp_path, same_set):
    configuration, experiment, _ = tested
    file = export([experiment], [], tmp_path / "given.onnx")
    split = json.loads(experiment.split.read_text())
    if not same_set:  # other images, whose patients may have the same ids
        for number, member in enumerate(chain(*split["parts"].values())):
            member |= {"sha256": f"{number}", "pixels": f"{number}"}
    (tmp_path / "split.json").write_text(json.dumps(split))
    seen = frozenset(m[key] for m in split["parts"]["train"] for key in ("sha256", "pixels"))
    seen |= {m[key] for m in split["parts"]["validation"] for key in ("sha256", "pixels")}
    compared = refuse_images_seen(file, seen, configuration)
    assert compared == "known; no test image is one of them" + "; nor is a test patient" * same_set


def test_the_angle_of_the_test_images_reaches_an_exported_network(tested, tmp_path):
    _configuration, experiment, _ = tested
    file = export([experiment], [], tmp_path / "given.onnx")
    angle = "testing settings.test_field_of_view_degrees=30"
    settings = [s for s in tiny_settings(experiment.folder.parents[1]) if s.startswith("data paths.")]
    options = [word for setting in (*settings, angle) for word in ("--set", setting)]
    command = [sys.executable, PROJECT / "run_testing.py", "--model", file, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2  # this network does not know its own scale
    assert f"over {file}: [testing settings] test_field_of_view_degrees = 30: found no" in done.stderr


def test_a_test_patient_who_was_trained_on_is_refused(prepared, tested, tmp_path):
    _configuration, _experiment, _ = tested
    mixed = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    for kind in ("imgs", "groundTruth", "borderMasks"):
        shutil.copy(mixed / f"FFA_dataset_{kind}_train.hdf5", mixed / f"FFA_dataset_{kind}_test.hdf5")
    settings = ["experiment name.name=tested", f"data paths.path_local={mixed}"]
    with pytest.raises(UserError, match="in the train part of the training"):
        run_test(tiny_configuration(prepared, *settings))


def test_a_second_test_of_the_same_images_is_refused(prepared, tested):
    configuration, experiment, _ = tested
    scores = experiment.performances.read_bytes()
    with (
        results_lock(experiment.folder),
        pytest.raises(UserError, match=r"tested: a test writes into it \(process \d+ on .*\); wait"),
    ):
        run_test(configuration)
    assert experiment.performances.read_bytes() == scores


def test_initial_weights_are_checked_although_the_test_does_not_name_them(prepared, tested, tmp_path):
    _, experiment, _ = tested
    split = json.loads(experiment.split.read_text())
    split["parts"]["train"] = split["parts"]["test"]
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "split.json").write_text(json.dumps(split))
    folder = shutil.copytree(experiment.folder, tmp_path / "experiments" / "tested")
    stored = folder / experiment.configuration.name
    old, new = "initial_weights = none", f"initial_weights = {tmp_path / 'before' / 'a.weights.h5'}"
    assert old in stored.read_text()
    stored.write_text(stored.read_text().replace(old, new))
    settings = ["experiment name.name=tested", f"experiment name.path_experiments={folder.parent}"]
    with pytest.raises(
        UserError, match=r"initial_weights: .*before/a\.weights\.h5 was trained on test or validation"
    ):
        run_test(tiny_configuration(prepared, *settings))


def test_another_set_is_tested_beside_the_own_results(tested, tmp_path):
    _, experiment, _ = tested
    own = (experiment.folder / "performances.json").read_bytes()
    folder = tmp_path / "elsewhere"
    write_synthetic_angiograms(folder / "angiograms", 6, seed=9, size=128)
    prepare(tiny_configuration(folder))  # its names and patients are those of the set trained on
    there = folder / "datasets"
    evaluation = run_test(
        tiny_configuration(
            experiment.folder.parents[1], "experiment name.name=tested", f"data paths.path_test={there}"
        )
    )
    results = experiment.folder / "on_datasets"
    scores = json.loads((results / "performances.json").read_text())
    names = [i.name for i in read_part(tiny_configuration(folder).data_paths.hdf5("test"))]
    assert [i["name"] for i in scores["per_image"]] == names
    assert evaluation.threshold == json.loads(own)["threshold"]
    assert (results / "tested_overlay0.png").is_file()
    assert (experiment.folder / "performances.json").read_bytes() == own
    scored = (results / "performances.json").read_bytes()
    other = shutil.copytree(there, tmp_path / "moved" / "datasets")
    again = tiny_configuration(
        experiment.folder.parents[1], "experiment name.name=tested", f"data paths.path_test={other}"
    )
    run_test(again)
    assert again.results_folder != results and (again.results_folder / "performances.json").is_file()
    assert (results / "performances.json").read_bytes() == scored


def test_images_trained_on_are_refused_as_another_set_too(prepared, tested, tmp_path):
    there = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    content = json.loads((there / "split.json").read_text())
    content["parts"]["test"] = content["parts"]["train"][:1]
    (there / "split.json").write_text(json.dumps(content))
    settings = ["experiment name.name=tested", f"data paths.path_test={there}"]
    with pytest.raises(UserError, match="in the train part of the training"):
        run_test(tiny_configuration(prepared, *settings))


def test_a_second_observer_is_a_row_of_its_own_and_connectivity_is_measured(prepared, tested, tmp_path):
    there = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    with h5py.File(there / "FFA_dataset_groundTruth_test.hdf5", "a") as store:
        second = np.roll(store["image"][...], 3, axis=1)
        store["second_observer"] = second
        truth = store["image"][...]
    with h5py.File(there / "FFA_dataset_borderMasks_test.hdf5") as store:
        inside = store["image"][...] > 0
    settings = ["experiment name.name=tested", f"data paths.path_test={there}"]
    configuration = tiny_configuration(prepared, *settings, "testing settings.connectivity=True")
    evaluation = run_test(configuration)
    human = evaluation.second_observer
    assert human.f1 == pytest.approx(f1_score(truth[inside], second[inside]))
    assert human.auc_roc is None
    text = (configuration.results_folder / "performances.txt").read_text()
    assert "human (second observer), FOV" in text and "clDice" in text
    assert len(evaluation.connectivity) == len(evaluation.per_image)


def test_pictures_come_in_rows_and_none_of_an_earlier_test_stays(prepared, tested, tmp_path):
    _, experiment, evaluation = tested
    folder = shutil.copytree(experiment.folder, tmp_path / "tested")
    first = "tested_Original_GroundTruth_Prediction0.png"
    with Image.open(folder / first) as picture:
        alone = picture.width
    (folder / ".999999999-tested_predictions.hdf5").touch()  # by a process that was killed
    settings = [f"experiment name.path_experiments={tmp_path}", "experiment name.name=tested"]
    number = len(evaluation.per_image) - 1
    settings += [f"testing settings.full_images_to_test={number}"]
    settings += [f"testing settings.N_group_visual={number + 3}", "testing settings.figure_formats=svg png"]
    run_test(tiny_configuration(prepared, *settings))
    curves = {file.name for name in ("ROC", "Precision_recall") for file in folder.glob(f"{name}.*")}
    assert curves == {"ROC.png", "ROC.svg", "Precision_recall.png", "Precision_recall.svg"}
    rows = [file.name for file in folder.glob("*_Original_GroundTruth_Prediction*")]
    assert rows == [first]
    with Image.open(folder / first) as picture:
        assert (picture.width > alone) == (number > 1)
    assert len(list(folder.glob("tested_overlay*"))) == number
    assert not list(folder.glob(".*"))


def test_test_images_without_truth_are_refused(prepared, tested, tmp_path):
    there = shutil.copytree(prepared / "datasets", tmp_path / "datasets")
    (there / "FFA_dataset_groundTruth_test.hdf5").unlink()
    settings = ["experiment name.name=tested", f"data paths.path_test={there}"]
    with pytest.raises(UserError, match="packed without truth and cannot be scored"):
        run_test(tiny_configuration(prepared, *settings))


def test_a_killed_test_leaves_no_score_or_figure_of_other_predictions(prepared, tested, tmp_path):
    _, experiment, _ = tested
    folder = shutil.copytree(experiment.folder, tmp_path / "tested")
    for name in ("ROC.pdf", "ROC.svg", "Precision_recall.pdf", "Precision_recall.svg"):
        (folder / name).touch()  # of an earlier test with other figure_formats
    before = (folder / "tested_predictions.hdf5").read_bytes()
    settings = [f"experiment name.path_experiments={tmp_path}", "experiment name.name=tested"]
    configuration = tiny_configuration(prepared, *settings, "testing settings.logit_shift=0.5")
    code = "import os, pickle, sys\nfrom lib.runtime.keras_startup import start_keras; start_keras()\n"
    code += "from lib.evaluation import test_run\n"
    code += "test_run.score_and_draw = lambda *a: os._exit(9)\n"  # killed when the predictions are written
    code += "test_run.test(pickle.load(sys.stdin.buffer))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(configuration), capture_output=True, cwd=PROJECT
    )
    assert done.returncode == 9, done.stderr
    assert (folder / "tested_predictions.hdf5").read_bytes() != before
    patterns = ("*.png", "*.pdf", "*.svg", "perf*", "per_image*")
    shown = {file.name for pattern in patterns for file in folder.glob(pattern)}
    of_training = {
        "learning_curves.png",
        "sample_input_imgs.png",
        "sample_input_masks.png",
        "tested_model.png",
    }
    assert shown <= of_training


NETWORK_BLUE, DARKNESS_ORANGE = (0, 114, 178), (230, 159, 0)


def count(file, colour):
    """How many pixels of the PNG have the colour."""
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    return np.count_nonzero(np.abs(pixels - colour).max(axis=-1) <= 4)


def an_image(truth):
    ramp = np.linspace(0.7, 0, 1600, dtype=np.float32).reshape(40, 40)
    probability = truth * np.float32(0.2) + ramp.T
    original = np.full((40, 40), 100, np.uint8)
    original[::2] = 110
    return PredictedImage("2-1", "2", probability, truth, np.ones_like(truth), original, truth)


def test_curves_show_the_network_and_the_baseline(tmp_path):
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    draw_curves(tmp_path, evaluate([an_image(truth)], 0.5, 0.5))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["Precision_recall.png", "ROC.png"]
    for file in tmp_path.iterdir():
        assert min(Image.open(file).size) > 600
        assert count(file, NETWORK_BLUE) > 1000
        assert count(file, DARKNESS_ORANGE) > 100


def test_curves_in_other_formats_are_vector_graphics(tmp_path):
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    draw_curves(tmp_path, evaluate([an_image(truth)], 0.5, 0.5), ("pdf", "svg"))
    names = ["Precision_recall.pdf", "Precision_recall.svg", "ROC.pdf", "ROC.svg"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    for name in names[::2]:
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"%PDF-") and b"/Subtype /Image" not in content
    for name in names[1::2]:
        content = (tmp_path / name).read_text()
        assert "<svg" in content and "<image" not in content
        assert "blurred darkness (area" in content  # Matplotlib writes each text as a comment too


def test_curves_that_are_not_defined_are_left_out(tmp_path):
    case = an_image(np.zeros((40, 40), np.uint8))
    outside = dataclasses.replace(case, field_of_view=np.zeros((40, 40), np.uint8))
    for name, image in {"no_positive": case, "no_pixel": outside}.items():
        draw_curves(tmp_path / name, evaluate([image], 0.5))
        for file in (tmp_path / name).iterdir():
            assert count(file, NETWORK_BLUE) == 0


def test_scores_are_read_back_as_they_were_written(tmp_path):
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    evaluation = evaluate([an_image(truth)], 0.5, 0.5, connectivity=True)
    write_performances(tmp_path, evaluation, {})
    read = read_performances(tmp_path / "performances.json")
    assert read == dataclasses.replace(evaluation, curves=None, darkness_curves=None)
    (tmp_path / "performances.json").write_text("{}")
    with pytest.raises(UserError, match=r"performances\.json: not the scores of this version"):
        read_performances(tmp_path / "performances.json")
