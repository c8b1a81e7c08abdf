"""The test run: predict the test images, score them, draw the figures."""

import dataclasses
import glob
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np

from lib.configuration.experiment_folder import CURVES, Experiment, refuse_other_settings, refuse_untrained
from lib.configuration.folder_lock import results_lock
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import TESTED_FOLDER, TestingSettings, by_validation
from lib.datasets.leakage import refuse_images_seen, refuse_initial_weights, refuse_trained_images
from lib.datasets.prepared_hdf5 import refuse_missing_parts
from lib.evaluation.measures.boundary import TOLERANCES_PX
from lib.evaluation.performance_report import (
    EPOCHS,
    IMAGES,
    OUTSIDE,
    SCORE_FILES,
    SETTINGS,
    described_split,
    write_performances,
)
from lib.evaluation.pixel_scores import Curves, Scores, format_score
from lib.evaluation.predicted_images import (
    predict_part,
    read_predictions,
    sizes_of_predictions,
    write_predictions,
)
from lib.evaluation.scoring import Evaluation, PredictedImage, Scoring, f1_of_masks
from lib.evaluation.validation_choices import darkness_threshold_for, operating_point_for, precision_for
from lib.figures.mosaics import ImageGrid, labelled_rows
from lib.figures.overlay import overlay
from lib.figures.roc_and_precision_recall import Curve, Point, precision_recall_figure, roc_figure
from lib.figures.style import BLUE, ORANGE, VERMILION
from lib.images.checked_files import file_sha256
from lib.networks.from_experiments import SECTIONS_EQUAL_IN_ENSEMBLE, SECTIONS_FIXED_BY_TRAINING, mean_model
from lib.networks.from_onnx import read_onnx_network
from lib.networks.keras_model import prediction_settings, trained_model
from lib.networks.onnx_metadata import overrides_of_network
from lib.networks.operating_point import OperatingPoint, configured_operating_point, write_operating_point
from lib.networks.trained_network import Predict, refuse_other_structure
from lib.prediction.sliding_window import described_window
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.background import BackgroundThread
from lib.runtime.progress import progress
from models.folding import fold_for_prediction

GRIDS = {"all_originals": "original", "all_groundTruths": "truth", "all_predictions": "probability"}
"""Pictures of all images, and the attribute of `PredictedImage` that they show."""


def test(configuration: Configuration, members: Sequence[Experiment] = ()) -> Evaluation:
    """Predict and score the test images; write tables and figures to the experiment's folder.

    Args:
        configuration: settings of the test, and name of the experiment that the results belong to.
        members: the experiments of an ensemble, whose probabilities are averaged; none: the experiment
            itself.

    Raises:
        UserError: a network is not trained, was trained with other settings, or on a test patient.
    """
    settings = configuration.testing_settings
    experiment = Experiment.of(configuration)
    members = members or [experiment]
    networks = _networks(configuration, members)
    sha256 = " ".join(file_sha256(weights) for _, weights in networks)  # a training may replace them
    precision = settings.precision
    if precision == "auto":
        precision = precision_for(partial(_mean_network, networks), configuration)
    model = _mean_network(networks, precision)
    point = operating_point_for(model, configuration, members, precision)
    context = _context(experiment.name, members, networks)
    adapted = prediction_settings(model, settings)
    only_inside = any(read_configuration(m.configuration).training_settings.loss_in_FOV for m in members)
    predict = model.predict_on_batch
    evaluation = _scored(predict, configuration, adapted, point, context, only_inside=only_inside)
    if configured_operating_point(settings) is None:
        write_operating_point(experiment.operating_point, point, settings, sha256)
    return evaluation


def test_exported(configuration: Configuration, file: Path, overrides: Sequence[str] = ()) -> Evaluation:
    """The same for the network of an ONNX file, with the threshold and the smallest area of the file.

    Args:
        configuration: the test images, and the folder of the results.
        file: the ONNX file.
        overrides: changes of the settings, "section.key=value"; those of the network change its own.

    Raises:
        UserError: as `read_onnx_network`; the network was trained on a test image or its patient, or outlines
            another structure; the test images have no truth.
    """
    of_network = overrides_of_network(overrides, file)
    if degrees := configuration.testing_settings.test_field_of_view_degrees:
        of_network.insert(0, f"testing settings.test_field_of_view_degrees={degrees:g}")
    network = read_onnx_network(file, of_network)
    refuse_other_structure(configuration.data_attributes.structure, network.structure, file)
    refuse_missing_parts(configuration.data_paths)
    compared = refuse_images_seen(file, network.seen_images_sha256, configuration)
    source = f"{network.threshold_source}, {file.name}"
    point = OperatingPoint(network.threshold, source, network.min_area_px)  # onnxruntime has float32 only
    context = {
        "network": network.architecture,
        "weights": f"{file.name}, SHA-256 {file_sha256(file)}",
        "training images": compared,
    }
    preprocessed = dataclasses.replace(configuration, preprocessing=network.preprocessing)
    adapted = network.testing_settings
    return _scored(network.predict, preprocessed, adapted, point, context, only_inside=True)


def _scored(
    predict: Predict,
    configuration: Configuration,
    adapted: TestingSettings,
    point: OperatingPoint,
    context: dict[str, str],
    *,
    only_inside: bool,
) -> Evaluation:
    """Predict, score and draw the test images; `context` says which network it is.

    `adapted` are the settings of the prediction; those of `configuration` are for scores and figures.
    With `only_inside`, probabilities outside the field of view are set to 0, as run_prediction.py does: the
    probabilities of a network whose loss ignored these pixels have no meaning there.
    """
    settings = configuration.testing_settings
    results = Experiment(configuration.results_folder, configuration.experiment_name.name)
    if configuration.data_paths.path_test:
        write_text(results.folder / TESTED_FOLDER, f"{configuration.tested_folder}\n")
    limit = None if settings.full_images_to_test == "all" else settings.full_images_to_test
    seconds: list[float] = []
    # The predictions are read again: they must not be those of another test.
    with results_lock(results.folder):
        darkness_threshold = darkness_threshold_for(configuration)
        predicted = predict_part(predict, configuration, adapted, "test", limit)
        if only_inside:
            predicted = map(_without_surround, predicted)
        outdated = partial(_scores_and_figures, results)
        write_predictions(results.predictions, _timed(predicted, seconds), outdated)
        evaluation = score_and_draw(results, configuration, point.threshold, darkness_threshold)
        darkness = "n/a" if darkness_threshold is None else "best F1 on the validation images"
        context = context | {
            "prediction": f"{np.mean(seconds):.2f} s an image in {point.precision}, "
            "reading and preprocessing included",
            "window": described_window(adapted).removeprefix("window = "),
            "threshold": f"{point.threshold:.4g} ({point.threshold_source})",
            "threshold of blurred darkness": darkness,
            "test-time augmentation": adapted.tta,
            OUTSIDE: "set to 0" if only_inside else "as predicted",
            **({IMAGES: tested} if (tested := described_split(configuration)) else {}),
            SETTINGS: f"SHA-256 {configuration.score_sha256}",
            **_lines_of_some_tests(results, settings, adapted, point),
        }
        write_performances(results.folder, evaluation, context)  # last: the test is complete
    return evaluation


def _without_surround(case: PredictedImage) -> PredictedImage:
    return dataclasses.replace(case, probability=case.probability * case.field_of_view)


def _lines_of_some_tests(
    results: Experiment, settings: TestingSettings, adapted: TestingSettings, point: OperatingPoint
) -> dict[str, str]:
    """Lines of performances.txt on the angle of view, the pixel spacing and the smallest area, if given."""
    lines = {}
    if tested := adapted.test_field_of_view_degrees:
        trained = adapted.training_field_of_view_degrees
        lines["field of view"] = f"{tested:g} degrees, in the training {trained:g}"
    if spacing := settings.pixel_spacing_mm:
        tolerances = ", ".join(f"{pixels * spacing:.3g}" for pixels in TOLERANCES_PX)
        lines["tolerances of NSD"] = f"{tolerances} mm, at {spacing:g} mm a pixel (pixel_spacing_mm)"
    if (pixels := point.min_area_px) > 1:
        f1 = f1_of_masks(read_predictions(results.predictions), point.threshold, [pixels])[pixels]
        lines["masks of run_prediction.py"] = (
            f"areas below {pixels} pixels dropped: F1 {format_score(f1, '.3f')}; kept in all figures here"
        )
    return lines


def _networks(
    configuration: Configuration, members: Sequence[Experiment]
) -> list[tuple[Configuration, Path]]:
    """Configuration and weights of each network; none was trained on a test image or its patient."""
    networks, is_ensemble = [], len(members) > 1
    structure = configuration.data_attributes.structure
    by_images = not is_ensemble and by_validation(configuration.testing_settings)
    refuse_missing_parts(configuration.data_paths, validation=by_validation(configuration.testing_settings))
    for member in members:
        weights = member.weights(configuration.testing_settings.best_last)
        refuse_untrained(member, weights)
        fixed = SECTIONS_EQUAL_IN_ENSEMBLE if is_ensemble else SECTIONS_FIXED_BY_TRAINING
        refuse_other_settings(member, configuration, fixed)
        refuse_trained_images(member, configuration, validation=not is_ensemble)
        trained = read_configuration(member.configuration)
        refuse_other_structure(structure, trained.data_attributes.structure, member.name)
        refuse_initial_weights(
            dataclasses.replace(trained, data_paths=configuration.data_paths), member, validation=by_images
        )
        networks.append((trained if is_ensemble else configuration, weights))
    return networks


def _mean_network(networks: Sequence[tuple[Configuration, Path]], precision: str) -> keras.Model:
    """One network for prediction, whose probabilities are the mean of those of all."""
    return mean_model([fold_for_prediction(trained_model(*network, precision)) for network in networks])


def _context(
    name: str, members: Sequence[Experiment], networks: Sequence[tuple[Configuration, Path]]
) -> dict[str, str]:
    """Lines of performances.txt that say which networks were tested."""
    parameters = sum(member.training_record()["parameters"] for member in members)
    configurations, weights = zip(*networks, strict=True)
    architectures = " + ".join(c.model.architecture for c in configurations)
    return {
        "experiment": name,
        "network": f"{architectures}, {parameters:,} parameters",
        "weights": "; ".join(map(_origin, members, weights)),
        EPOCHS: "; ".join(map(_epochs, members)),
    }


def _timed(cases: Iterator[PredictedImage], seconds: list[float]) -> Iterator[PredictedImage]:
    """The same images; the time of each is appended to `seconds`."""
    started = time.monotonic()
    for case in cases:
        seconds.append(time.monotonic() - started)
        yield case
        started = time.monotonic()


def _epochs(experiment: Experiment) -> str:
    done = len(experiment.history())
    if not done:
        return "n/a (imported)"
    most = read_configuration(experiment.configuration).training_settings.N_epochs
    return f"{done} trained, of at most {most}"


def _origin(experiment: Experiment, weights: Path) -> str:
    """Name of the weight file; for imported weights also the file they come from."""
    if not experiment.source.is_file():
        return weights.name
    source = read_json(experiment.source, "import the weights again with run_import.py")
    return f"{weights.name}, from {source.get('file')}, SHA-256 {source.get('sha256')}"


def _scores_and_figures(results: Experiment) -> list[Path]:
    """All files of an earlier test that show its predictions; its scores first."""
    folder, name = results.folder, glob.escape(results.name)
    drawn = (f"{name}_overlay*.png", f"{name}_Original_GroundTruth_Prediction*.png")
    fixed = (*SCORE_FILES, *CURVES, *(f"{grid}.png" for grid in GRIDS))
    return [*(folder / file for file in fixed), *(file for one in drawn for file in folder.glob(one))]


def score_and_draw(
    results: Experiment, configuration: Configuration, threshold: float, darkness_threshold: float | None
) -> Evaluation:
    """Score the predictions and draw them in one pass, with a few images in memory at a time."""
    folder, settings = results.folder, configuration.testing_settings
    scoring = Scoring(
        threshold,
        darkness_threshold,
        connectivity=settings.connectivity,
        structure=configuration.data_attributes.structure,
    )
    sizes, columns = sizes_of_predictions(results.predictions), settings.N_group_visual
    grids = {attribute: ImageGrid(sizes, columns) for attribute in GRIDS.values()}
    row: list[PredictedImage] = []
    cases = progress(read_predictions(results.predictions), "scoring and drawing", len(sizes))
    with BackgroundThread() as thread:
        for number, case in enumerate(cases):
            file = results.file(f"_overlay{number}.png")
            thread.run(draw_overlay, file, case, scoring.add(case), threshold)
            for attribute, grid in grids.items():
                grid.add(getattr(case, attribute))
            row.append(case)
            if len(row) == columns or number == len(sizes) - 1:
                file = results.file(f"_Original_GroundTruth_Prediction{number // columns}.png")
                thread.run(original_truth_prediction, file, row, threshold)
                row = []
        for name, attribute in GRIDS.items():
            thread.run(grids[attribute].save, folder / f"{name}.png")
        evaluation = scoring.evaluation()
    draw_curves(folder, evaluation, settings.figure_formats)
    return evaluation


def draw_overlay(file: Path, case: PredictedImage, scores: Scores, threshold: float) -> None:
    """Write the overlay of one image with its scores inside the field of view."""
    overlay(
        file,
        name=case.name,
        original=case.original,
        truth=case.truth,
        probability=case.probability,
        field_of_view=case.field_of_view,
        threshold=threshold,
        caption=f"Dice {format_score(scores.f1, '.3f')} · AUC-ROC {format_score(scores.auc_roc, '.3f')} · "
        f"FOV pixels, threshold {threshold:.3g}",
    )


def draw_curves(folder: Path, evaluation: Evaluation, formats: Sequence[str] = ("png",)) -> None:
    """Write ROC and Precision_recall in these formats: network, blurred darkness and second observer."""
    images = len(evaluation.per_image)
    subtitle = f"FOV pixels pooled over {images} test image{'s' * (images != 1)}"
    scores = evaluation.all_background  # its false negatives are all positive pixels
    prevalence = (scores.false_negatives or 0) / scores.pixels if scores.pixels else None
    roc_figure(
        folder / "ROC.png",
        _curves(evaluation, "auc_roc", lambda c: (c.false_positive_rate, c.true_positive_rate)),
        _points(evaluation, lambda s: (_complement(s.specificity), s.sensitivity)),
        subtitle=subtitle,
        formats=formats,
    )
    precision_recall_figure(
        folder / "Precision_recall.png",
        # scikit-learn's last point (recall 0, precision 1) is by definition, not measured.
        _curves(evaluation, "auc_pr", lambda c: (c.recall[:-1], c.precision[:-1])),
        _points(evaluation, lambda s: (s.sensitivity, s.precision)),
        prevalence=prevalence,
        subtitle=subtitle,
        formats=formats,
    )


def _curves(
    evaluation: Evaluation, area: str, axes: Callable[[Curves], tuple[np.ndarray, np.ndarray]]
) -> list[Curve]:
    drawn = []
    for curves, scores, name, colour, width in (
        (evaluation.curves, evaluation.in_field_of_view, "network", BLUE, 2.2),
        (evaluation.darkness_curves, evaluation.blurred_darkness, "blurred darkness", ORANGE, 1.2),
    ):
        if curves is not None:
            label = f"{name} (area {format_score(getattr(scores, area), '.3f')})"
            drawn.append(Curve(label, *axes(curves), colour, width))
    return drawn


def _points(
    evaluation: Evaluation, axes: Callable[[Scores], tuple[float | None, float | None]]
) -> list[Point]:
    """Operating points of the network and of the second observer, where they are defined."""
    found = []
    scores, human = evaluation.in_field_of_view, evaluation.second_observer
    x, y = axes(scores)
    if x is not None and y is not None:
        rates = ("sensitivity", "specificity", "precision")
        shown = ", ".join(f"{rate} {format_score(getattr(scores, rate), '.3f')}" for rate in rates)
        found.append(Point(f"threshold {evaluation.threshold:.3g}: {shown}", x, y))
    x, y = axes(human) if human else (None, None)
    if human and x is not None and y is not None:
        label = f"second observer (F1 {format_score(human.f1, '.3f')})"
        found.append(Point(label, x, y, VERMILION, "D"))
    return found


def original_truth_prediction(file: Path, cases: Sequence[PredictedImage], threshold: float) -> None:
    """Three rows as in retina-unet: originals, their truths and the predicted probabilities."""
    rows = {
        "Original": [case.original for case in cases],
        "Ground truth": [case.truth for case in cases],
        "Prediction": [case.probability for case in cases],
    }
    labelled_rows(file, rows, [case.name for case in cases], threshold=threshold)


def _complement(rate: float | None) -> float | None:
    return None if rate is None else 1 - rate
