"""Testing: the trained network on the test images, scored and drawn."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from lib.configuration.experiment_folder import (
    Experiment,
    refuse_other_settings,
    refuse_untrained,
)
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import by_validation
from lib.datasets.leakage import (
    refuse_initial_weights,
    refuse_trained_images,
    validation_images_used_for_training,
)
from lib.datasets.prepared_hdf5 import members_of, read_part
from lib.evaluation.performance_report import write_performances
from lib.evaluation.pixel_scores import Curves, Scores, choose_threshold
from lib.evaluation.pooled_pixels import PooledPixels
from lib.evaluation.precision_choice import PRECISIONS, choose_precision
from lib.evaluation.predictions_file import (
    read_predictions,
    sizes_of_predictions,
    write_predictions,
)
from lib.evaluation.scoring import (
    Evaluation,
    PredictedImage,
    Scoring,
    blurred_darkness,
    choose_min_area,
    f1_of_masks,
)
from lib.figures.mosaics import ImageGrid, labelled_rows
from lib.figures.overlay import overlay
from lib.figures.roc_and_precision_recall import (
    Curve,
    Point,
    precision_recall_figure,
    roc_figure,
)
from lib.figures.style import BLUE, ORANGE, VERMILION, format_score
from lib.images.preprocessing import preprocess
from lib.networks.batches import HalfBatchRetry, with_batch_size
from lib.networks.from_experiments import FIXED_BY_TRAINING, SHARED, mean_model
from lib.networks.keras_model import trained_model
from lib.networks.operating_point import OperatingPoint, chosen_by_testing, write_operating_point
from lib.prediction.sliding_window import predict_image
from lib.runtime.background import BackgroundThread
from lib.runtime.errors import UserError
from lib.runtime.progress import progress
from models.folding import fold_batch_normalisation

COMPARED = 20
"""Validation images, at most, on which precisions are compared; all are in memory."""

GRIDS = {
    "all_originals": "original",
    "all_groundTruths": "truth",
    "all_predictions": "probability",
}
"""Pictures of all images together, and what they show."""


def test(configuration: Configuration, members: Sequence[Experiment] = ()) -> Evaluation:
    """Predict and score the test images; leave tables and pictures in the experiment's folder.

    Args:
        configuration: what to test on, how, and in whose name.
        members: of an ensemble, whose probabilities are averaged; none: the experiment itself.

    Raises:
        UserError: a network is not trained, or with other settings, or on a patient of the test part.
    """
    settings = configuration.testing_settings
    experiment = Experiment.of(configuration)
    trained = members or [experiment]
    networks = _networks(configuration, members)
    precision = settings.precision
    if precision == "auto":
        precision = _precision(networks, configuration)
    model, parameters = _ready(networks, precision)
    point = _choose_operating_point(model, configuration, members, precision)
    darkness_threshold = _darkness_threshold(configuration)
    limit = None if settings.full_images_to_test == "all" else settings.full_images_to_test
    results = Experiment(configuration.results_folder, experiment.name)
    predicted, seconds = predicted_images(model, configuration, "test", limit), []
    write_predictions(results.predictions, _timed(predicted, seconds))
    (results.folder / "performances.json").unlink(missing_ok=True)  # of other predictions
    evaluation = score_and_draw(results, configuration, point.threshold, darkness_threshold)
    configurations, weights = zip(*networks, strict=True)
    context = {
        "experiment": experiment.name,
        "network": f"{' + '.join(c.model.architecture for c in configurations)}, "
        f"{parameters:,} parameters",
        "weights": "; ".join(map(_origin, trained, weights)),
        "epochs": "; ".join(map(_epochs, trained, configurations)),
        "prediction": f"{np.mean(seconds):.2f} s an image in {precision}, reading and preprocessing "
        "included",
        "threshold": f"{point.threshold:.4g} ({point.threshold_source})",
        "threshold of blurred darkness": "best F1 on the validation images"
        if darkness_threshold is not None
        else "n/a",
    }
    if (pixels := point.min_area_px) > 1:
        f1 = f1_of_masks(read_predictions(results.predictions), point.threshold, [pixels])[pixels]
        context["masks of run_prediction.py"] = (
            f"areas below {pixels} pixels dropped: F1 {format_score(f1)}; kept in all figures here"
        )
    if chosen_by_testing(settings):
        write_operating_point(experiment.operating_point, point, settings)
    write_performances(results.folder, evaluation, context)  # last: it says that all is there
    return evaluation


def _networks(
    configuration: Configuration, members: Sequence[Experiment]
) -> list[tuple[Configuration, Path]]:
    """Configuration and weights of each network, none of which has seen what is to be tested."""
    _refuse_without_truth(configuration)
    networks = []
    for member in members or [Experiment.of(configuration)]:
        weights = member.weights(configuration.testing_settings.best_last)
        refuse_untrained(member, weights)
        refuse_other_settings(member, configuration, SHARED if members else FIXED_BY_TRAINING)
        refuse_trained_images(member, configuration, validation=not members)
        trained = read_configuration(member.configuration) if members else configuration
        refuse_initial_weights(dataclasses.replace(trained, data_paths=configuration.data_paths))
        networks.append((trained, weights))
    return networks


def _timed(cases: Iterator[PredictedImage], seconds: list[float]) -> Iterator[PredictedImage]:
    """The same images; how long each took is appended to `seconds`."""
    started = time.monotonic()
    for case in cases:
        seconds.append(time.monotonic() - started)
        yield case
        started = time.monotonic()


def _epochs(experiment: Experiment, configuration: Configuration) -> str:
    history = experiment.folder / "history.csv"
    if not history.is_file():
        return "n/a (imported)"
    done = len(history.read_text(encoding="utf-8").splitlines()) - 1
    return f"{done} trained, of at most {configuration.training_settings.N_epochs}"


def _origin(experiment: Experiment, weights: Path) -> str:
    """The weight file's name, and whose weights they are where they were imported."""
    if not experiment.source.is_file():
        return weights.name
    source = json.loads(experiment.source.read_text(encoding="utf-8"))
    return f"{weights.name}, from {source['file']}, SHA-256 {source['sha256']}"


def predicted_images(
    model: keras.Model, configuration: Configuration, part: str, limit: int | None = None
) -> Iterator[PredictedImage]:
    """Predict the images of one part, one at a time."""
    files = configuration.data_paths.hdf5(part)
    number = len(members_of(files)[:limit])
    predict = HalfBatchRetry(model.predict_on_batch)
    settings = with_batch_size(model.predict_on_batch, configuration.testing_settings)
    for image in progress(read_part(files, limit), f"predicting {part}", number):
        levels = preprocess(image.original, image.field_of_view, configuration.preprocessing)
        yield PredictedImage(
            image.name,
            image.patient,
            predict_image(predict, levels, settings),
            image.truth,
            image.field_of_view,
            image.original,
            image.second_observer,
        )


def _ready(
    networks: Sequence[tuple[Configuration, Path]], precision: str
) -> tuple[keras.Model, int]:
    """The mean of the networks, ready to predict, and the number of their parameters."""
    models = [trained_model(*network, precision) for network in networks]
    return mean_model([fold_batch_normalisation(m) for m in models]), sum(
        m.count_params() for m in models
    )


def _precision(networks: Sequence[tuple[Configuration, Path]], configuration: Configuration) -> str:
    """The faster precision, if the validation images show no difference that matters."""
    if not configuration.data_paths.hdf5("validation")[0].is_file():
        print("precision: float32, as there are no validation images to compare on")
        return "float32"
    predicted, seconds = {}, {}
    for precision in PRECISIONS:
        model, _ = _ready(networks, precision)
        next(predicted_images(model, configuration, "validation", 1))  # traces
        started = time.monotonic()
        predicted[precision] = list(predicted_images(model, configuration, "validation", COMPARED))
        seconds[precision] = time.monotonic() - started
    chosen, why = choose_precision(predicted, seconds)
    print(f"precision: {chosen}, as {why}")
    return chosen


def _choose_operating_point(
    model: keras.Model,
    configuration: Configuration,
    members: Sequence[Experiment],
    precision: str,
) -> OperatingPoint:
    """As the settings say, or chosen on the validation images that no member has been trained on."""
    settings = configuration.testing_settings
    threshold, min_area_px, source = settings.threshold, settings.min_area_px, "configuration"
    if not by_validation(settings):
        return OperatingPoint(threshold, source, min_area_px, precision)
    learnt = {
        name
        for member in members
        for name in validation_images_used_for_training(member, configuration)
    }
    cases = predicted_images(model, configuration, "validation")
    with TemporaryDirectory() as folder:  # rather than in memory: there may be many
        file = Path(folder) / "validation.hdf5"
        write_predictions(file, (case for case in cases if case.name not in learnt))
        if not sizes_of_predictions(file):
            raise UserError(
                f"{configuration.experiment_name.name}: each validation image has trained one of the "
                'networks and can choose no threshold; give numbers: --set "testing settings.threshold=0.5" '
                '--set "testing settings.min_area_px=0"'
            )
        if threshold == "validation":
            source = "best F1 on the validation images"
            source += f" but for the {len(learnt)} that have trained a network" if learnt else ""
            threshold = _best_threshold(
                (c.probability, c.truth, c.field_of_view) for c in read_predictions(file)
            )
        if min_area_px == "validation":
            min_area_px = choose_min_area(read_predictions(file), threshold)
    return OperatingPoint(threshold, source, min_area_px, precision)


def _darkness_threshold(configuration: Configuration) -> float | None:
    """Blurred darkness has no natural threshold: its own always comes from the validation images.

    Without any, or without a positive pixel in them, that baseline goes without a threshold.
    """
    files = configuration.data_paths.hdf5("validation")
    if not files[0].is_file():
        return None
    try:
        return _best_threshold(
            (blurred_darkness(image.original), image.truth, image.field_of_view)
            for image in read_part(files)
        )
    except UserError:
        return None


def _best_threshold(images: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """Of (score, truth, field of view) images, over their pooled FOV pixels."""
    inside = ((score[view > 0], truth[view > 0]) for score, truth, view in images)
    return choose_threshold(PooledPixels(inside))


def _refuse_without_truth(configuration: Configuration) -> None:
    images, truth, _ = configuration.data_paths.hdf5("test")
    if images.is_file() and not truth.is_file():
        raise UserError(
            f"{truth}: no such file; the test images were packed without truth and cannot be scored"
        )


def score_and_draw(
    results: Experiment,
    configuration: Configuration,
    threshold: float,
    darkness_threshold: float | None,
) -> Evaluation:
    """Go once through the kept predictions, a few images in memory at a time, or two rows of a picture."""
    folder, settings = results.folder, configuration.testing_settings
    for pattern in ("_overlay*.png", "_Original_GroundTruth_Prediction*.png"):  # of an earlier test
        for file in folder.glob(f"{results.name}{pattern}"):
            file.unlink()
    scoring = Scoring(threshold, darkness_threshold, connectivity=settings.connectivity)
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
                thread.run(original_truth_prediction, file, row)
                row = []
        for name, attribute in GRIDS.items():
            thread.run(grids[attribute].save, folder / f"{name}.png")
        evaluation = scoring.evaluation()
    draw_curves(folder, evaluation)
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
        caption=f"Dice {format_score(scores.f1)} · AUC-ROC {format_score(scores.auc_roc)} · FOV pixels, "
        f"threshold {threshold:.3g}",
    )


def draw_curves(folder: Path, evaluation: Evaluation) -> None:
    """Write ROC.png and Precision_recall.png: the network, blurred darkness and the second observer."""
    images = len(evaluation.per_image)
    subtitle = f"FOV pixels pooled over {images} test image{'s' * (images != 1)}"
    scores = evaluation.all_background  # its false negatives are all positive pixels
    prevalence = (scores.false_negatives or 0) / scores.pixels if scores.pixels else None
    roc_figure(
        folder / "ROC.png",
        _curves(evaluation, "auc_roc", lambda c: (c.false_positive_rate, c.true_positive_rate)),
        _points(evaluation, lambda s: (_complement(s.specificity), s.sensitivity)),
        subtitle=subtitle,
    )
    precision_recall_figure(
        folder / "Precision_recall.png",
        # scikit-learn's last point (recall 0, precision 1) is by definition, not measured.
        _curves(evaluation, "auc_pr", lambda c: (c.recall[:-1], c.precision[:-1])),
        _points(evaluation, lambda s: (s.sensitivity, s.precision)),
        prevalence=prevalence,
        subtitle=subtitle,
    )


def _curves(
    evaluation: Evaluation,
    area: str,
    axes: Callable[[Curves], tuple[np.ndarray, np.ndarray]],
) -> list[Curve]:
    drawn = []
    for curves, scores, name, colour, width in (
        (evaluation.curves, evaluation.in_field_of_view, "network", BLUE, 2.2),
        (evaluation.darkness_curves, evaluation.blurred_darkness, "blurred darkness", ORANGE, 1.2),
    ):
        if curves is not None:
            label = f"{name} (area {format_score(getattr(scores, area))})"
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
        label = f"threshold {evaluation.threshold:.3g}: sensitivity {format_score(scores.sensitivity)}, "
        label += f"specificity {format_score(scores.specificity)}, precision {format_score(scores.precision)}"
        found.append(Point(label, x, y))
    x, y = axes(human) if human else (None, None)
    if human and x is not None and y is not None:
        label = f"second observer (F1 {format_score(human.f1)})"
        found.append(Point(label, x, y, VERMILION, "D"))
    return found


def original_truth_prediction(file: Path, cases: Sequence[PredictedImage]) -> None:
    """Three rows as in retina-unet: originals, their truths and the predicted probabilities."""
    rows = {
        "Original": [case.original for case in cases],
        "Ground truth": [case.truth for case in cases],
        "Prediction": [case.probability for case in cases],
    }
    labelled_rows(file, rows, [case.name for case in cases])


def _complement(rate: float | None) -> float | None:
    return None if rate is None else 1 - rate
