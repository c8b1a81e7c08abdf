"""The choices that the validation images make for a test: precision, threshold, smallest area."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.configuration.sections import PRECISIONS, Precision
from lib.datasets.leakage import validation_images_used_for_training
from lib.datasets.prepared_hdf5 import read_part
from lib.evaluation.pixel_scores import choose_threshold
from lib.evaluation.pooled_pixels import PooledPixels
from lib.evaluation.predicted_images import (
    predict_part,
    read_predictions,
    sizes_of_predictions,
    write_predictions,
)
from lib.evaluation.scoring import PredictedImage, blurred_darkness, choose_min_area
from lib.networks.keras_model import prediction_settings
from lib.networks.operating_point import OperatingPoint
from lib.runtime.errors import UserError
from lib.training.losses_and_metrics import auc_roc

FLOAT32, BFLOAT16 = PRECISIONS

LEAST_SPEED_UP = 1.1
"""Computers without bfloat16 emulate it and are slower."""

DIFFERENCE, SHARE = 0.01, 0.99
"""At least this share of the probabilities must differ by at most `DIFFERENCE`."""

AUC_DIFFERENCE = 0.0005

COMPARED = 20
"""Validation images, at most, on which precisions are compared; all are in memory."""


def precision_for(network_in: Callable[[str], keras.Model], configuration: Configuration) -> Precision:
    """`precision = auto` as one of `PRECISIONS`, which `network_in` takes; prints the choice and why."""
    if not configuration.data_paths.hdf5("validation")[0].is_file():
        print("precision: float32, since there are no validation images to compare the predictions of")
        return FLOAT32
    predicted: dict[str, list[PredictedImage]] = {}
    seconds: dict[str, float] = {}
    for precision in PRECISIONS:
        model = network_in(precision)
        settings = prediction_settings(model, configuration.testing_settings)
        part = partial(predict_part, model.predict_on_batch, configuration, settings, "validation")
        next(part(1))  # compiles
        started = time.monotonic()
        predicted[precision] = list(part(COMPARED))
        seconds[precision] = time.monotonic() - started
    chosen, why = choose_precision(predicted, seconds)
    print(f"precision: {chosen}; {why}")
    return chosen


def choose_precision(
    predicted: Mapping[str, Sequence[PredictedImage]], seconds: Mapping[str, float]
) -> tuple[Precision, str]:
    """Choose from the predictions of the same images in each of `PRECISIONS`, and from their times.

    Returns:
        The precision, and the reason.
    """
    exact, rounded = (
        np.concatenate([case.probability[case.field_of_view > 0] for case in predicted[precision]])
        for precision in PRECISIONS
    )
    truth = np.concatenate([case.truth[case.field_of_view > 0] for case in predicted[FLOAT32]]) > 0
    speed_up = seconds[FLOAT32] / seconds[BFLOAT16]
    similar = float(np.mean(np.abs(exact - rounded) <= DIFFERENCE))
    both_classes = truth.any() and not truth.all()
    change = abs(auc_roc(exact, truth) - auc_roc(rounded, truth)) if both_classes else 0.0
    accepted = speed_up >= LEAST_SPEED_UP and similar >= SHARE and change <= AUC_DIFFERENCE
    reason = (
        f"on the validation images, {BFLOAT16} is {speed_up:.2f} times as fast; {similar:.2%} of the "
        f"probabilities differ by at most {DIFFERENCE}, and AUC-ROC differs by {change:.6f}"
    )
    return BFLOAT16 if accepted else FLOAT32, reason


def operating_point_for(
    model: keras.Model, configuration: Configuration, members: Sequence[Experiment], precision: str
) -> OperatingPoint:
    """The operating point of the settings, or the best one on the validation images.

    It is chosen on the validation images that trained none of the `members`, the experiments of the network.

    Raises:
        UserError: each validation image trained one of the members.
    """
    settings = configuration.testing_settings
    threshold, min_area_px, source = settings.threshold, settings.min_area_px, "configuration"
    if threshold != "validation" and min_area_px != "validation":
        return OperatingPoint(threshold, source, min_area_px, precision)
    excluded = {
        name for member in members for name in validation_images_used_for_training(member, configuration)
    }
    adapted = prediction_settings(model, settings)
    cases = predict_part(model.predict_on_batch, configuration, adapted, "validation")
    with TemporaryDirectory() as folder:  # not in memory: there may be many images
        file = Path(folder) / "validation.hdf5"
        write_predictions(file, (case for case in cases if case.name not in excluded))
        if not sizes_of_predictions(file):
            raise UserError(
                f"{configuration.experiment_name.name}: each validation image was used to train one of the "
                "networks, so that none can choose the threshold; give numbers: "
                '--set "testing settings.threshold=0.5" --set "testing settings.min_area_px=0"'
            )
        if threshold == "validation":
            source = "best F1 on the validation images"
            if excluded:
                source += f" without the {len(excluded)} that trained one of the networks"
            threshold = _best_threshold(
                (c.probability, c.truth, c.field_of_view) for c in read_predictions(file)
            )
        if min_area_px == "validation":
            min_area_px = choose_min_area(read_predictions(file), threshold)
    return OperatingPoint(threshold, source, min_area_px, precision)


def darkness_threshold_for(configuration: Configuration) -> float | None:
    """The threshold of blurred darkness with the best F1 on the validation images.

    None without validation images, or without a positive pixel in them.
    """
    files = configuration.data_paths.hdf5("validation")
    if not files[0].is_file():
        return None
    try:
        return _best_threshold(
            (blurred_darkness(image.original), image.truth, image.field_of_view)
            for image in read_part(files)
            if image.truth is not None
        )
    except UserError:
        return None


def _best_threshold(images: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """The threshold with the best F1 over the pooled FOV pixels of (score, truth, field of view) images."""
    inside = ((score[view > 0], truth[view > 0]) for score, truth, view in images)
    return choose_threshold(PooledPixels(inside))
