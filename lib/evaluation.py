"""Scores of predicted images: over the field of view, pooled and per image, beside two baselines.

A pixel counts as positive where its probability is at least the threshold. A score that is not
defined (no positive pixel, nothing predicted, ...) is `None`, never NaN, and is left out of means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.connectivity import Connectivity, measure_connectivity
from lib.measurement import binary_mask
from lib.pixel_scores import (
    RATES,
    Curves,
    Scores,
    ratio,
    score_pixels,
    score_with_curves,
    sorted_pixels,
)
from lib.user_errors import UserError

MIN_AREAS = (0, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Pixels; what `choose_min_area` tries."""

DARKNESS_SIGMA = 2.0
"""Pixels; the standard deviation of the Gaussian in `blurred_darkness`."""


@dataclass(frozen=True)
class PredictedImage:
    """One image with its truth and what the network made of it.

    Attributes:
        name: file name without its ending.
        patient: whose image it is.
        probability: (H, W) float32 in [0, 1].
        truth: (H, W) uint8 in {0, 1}.
        field_of_view: (H, W) uint8 in {0, 1}.
        image: (H, W) float32 in [0, 1], as the network saw it.
        original: (H, W) or (H, W, 3) uint8, as it was packed.
        second_observer: (H, W) uint8 in {0, 1}, another person's truth; None where there is none.
    """

    name: str
    patient: str
    probability: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray
    image: np.ndarray
    original: np.ndarray
    second_observer: np.ndarray | None = None


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image inside its field of view."""

    name: str
    patient: str
    scores: Scores


@dataclass(frozen=True)
class Average:
    """Mean and sample standard deviation (ddof = 1) over the `images` where a score is defined."""

    mean: float | None
    standard_deviation: float | None
    images: int


@dataclass(frozen=True)
class Evaluation:
    """Everything that testing reports.

    Attributes:
        threshold: of the network's probabilities.
        in_field_of_view: the network, FOV pixels pooled over all images: the headline.
        whole_image: the network, all pixels pooled; flattered by the easy dark surround.
        blurred_darkness: baseline on the pooled FOV pixels.
        all_background: baseline on the pooled FOV pixels that finds nothing anywhere.
        second_observer: a person, scored against the first on the pooled FOV pixels; has no areas, as
            one mask is one point of a curve. `None` unless every image has one.
        per_image: FOV scores of each image, in the order given.
        connectivity: of each image's vessels, FOV pixels; empty unless it was asked for.
        averages: for each name in `RATES`, its average over `per_image`.
        curves: of `in_field_of_view`; `None` where the areas are not defined.
        darkness_curves: of `blurred_darkness`; `None` where the areas are not defined.
    """

    threshold: float
    in_field_of_view: Scores
    whole_image: Scores
    blurred_darkness: Scores
    all_background: Scores
    second_observer: Scores | None
    per_image: tuple[ImageScores, ...]
    connectivity: tuple[Connectivity, ...]
    averages: dict[str, Average]
    curves: Curves | None
    darkness_curves: Curves | None


def evaluate(
    cases: Sequence[PredictedImage],
    threshold: float,
    darkness_threshold: float | None = None,
    *,
    connectivity: bool = False,
) -> Evaluation:
    """Score `cases` by the project's protocol.

    Args:
        cases: the test images; sizes may differ.
        threshold: for the network, chosen without looking at `cases`.
        darkness_threshold: for `blurred_darkness`, chosen likewise; without it that baseline has
            areas only.
        connectivity: measure how vessels hang together; takes about a second an image.

    Raises:
        UserError: there is no image, or a probability is not finite.
    """
    _check(cases)
    truth = _pool(cases, lambda case: case.truth)
    in_field_of_view, curves = score_with_curves(
        _pool(cases, lambda case: case.probability), truth, threshold
    )
    darkness, darkness_curves = score_with_curves(
        _pool(cases, lambda case: blurred_darkness(case.original)), truth, darkness_threshold
    )
    per_image = tuple(
        ImageScores(
            case.name,
            case.patient,
            score_pixels(_inside(case, case.probability), _inside(case, case.truth), threshold),
        )
        for case in cases
    )
    return Evaluation(
        threshold=threshold,
        in_field_of_view=in_field_of_view,
        whole_image=score_pixels(
            np.concatenate([case.probability.ravel() for case in cases]),
            np.concatenate([case.truth.ravel() for case in cases]),
            threshold,
        ),
        blurred_darkness=darkness,
        all_background=score_pixels(np.zeros(truth.shape, np.float32), truth, 0.5),
        second_observer=_second_observer(cases, truth),
        per_image=per_image,
        connectivity=tuple(_connectivity(c, threshold) for c in cases) if connectivity else (),
        averages={rate: average([s.scores for s in per_image], rate) for rate in RATES},
        curves=curves,
        darkness_curves=darkness_curves,
    )


def choose_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of the greatest F1 over all distinct scores; the lowest of equals.

    To be called with the validation images, never with the test images.

    Args:
        probability: finite floats of any shape.
        truth: {0, 1}, of the same shape.

    Raises:
        UserError: no pixel is positive, so that F1 is 0 at every threshold.
    """
    scores, labels = sorted_pixels(probability, truth)
    positives = np.count_nonzero(labels)
    if not positives:
        raise UserError(
            "no threshold can be chosen: none of the validation images has a positive pixel in its "
            "field of view; give a number instead, e.g. threshold = 0.5"
        )
    first_of_score = np.flatnonzero(np.diff(scores, prepend=np.nan) != 0)
    true_positives = positives - np.concatenate([[0], np.cumsum(labels)])[first_of_score]
    predicted = scores.size - first_of_score
    f1 = 2 * true_positives / (predicted + positives)
    return float(scores[first_of_score[np.argmax(f1)]])


def choose_min_area(cases: Sequence[PredictedImage], threshold: float) -> int:
    """Below how many pixels areas are best dropped: of `MIN_AREAS`, the least with the best pooled F1."""
    return max(MIN_AREAS, key=lambda pixels: f1_of_masks(cases, threshold, pixels) or 0.0)


def f1_of_masks(
    cases: Sequence[PredictedImage], threshold: float, min_area_px: int
) -> float | None:
    """F1 over the pooled FOV pixels of masks without small areas; None where nothing is positive."""
    hits = marked = positive = 0
    for case in cases:
        mask = binary_mask(case.probability, case.field_of_view, threshold, min_area_px)
        truth = (case.truth > 0) & (case.field_of_view > 0)
        hits += int(np.count_nonzero(mask & truth))
        marked += int(np.count_nonzero(mask))
        positive += int(np.count_nonzero(truth))
    return ratio(2 * hits, marked + positive)


def blurred_darkness(original: np.ndarray) -> np.ndarray:
    """How dark an image is around each pixel: the baseline that a network has to beat.

    Args:
        original: (H, W) or (H, W, 3) RGB, uint8.

    Returns:
        (H, W) float32 in [0, 1]: 1 - (grey, blurred by a Gaussian of 2 pixels) / 255.
    """
    grey = original.astype(np.float32)
    if grey.ndim == 3:
        grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), DARKNESS_SIGMA)
    return np.clip(1 - blurred / 255, 0, 1)


def _second_observer(cases: Sequence[PredictedImage], truth: np.ndarray) -> Scores | None:
    if any(case.second_observer is None for case in cases):
        return None
    scores = score_pixels(_pool(cases, lambda case: case.second_observer), truth, 0.5)
    return replace(scores, threshold=None, auc_roc=None, auc_pr=None)


def _check(cases: Sequence[PredictedImage]) -> None:
    if not cases:
        raise UserError("there is no test image to score; expected at least one")
    for case in cases:
        if not np.isfinite(case.probability).all():
            raise UserError(
                f"{case.name}: the network predicts NaN or infinity; expected probabilities in "
                "[0, 1]; its training diverged: lower learning_rate and train again"
            )


def _inside(case: PredictedImage, values: np.ndarray) -> np.ndarray:
    return values[case.field_of_view > 0]


def _pool(
    cases: Sequence[PredictedImage], values: Callable[[PredictedImage], np.ndarray]
) -> np.ndarray:
    return np.concatenate([_inside(case, values(case)) for case in cases])


def _connectivity(case: PredictedImage, threshold: float) -> Connectivity:
    inside = case.field_of_view > 0
    return measure_connectivity((case.probability >= threshold) & inside, (case.truth > 0) & inside)


def average(scores: Sequence[object], rate: str) -> Average:
    """Of the attribute `rate` of each of `scores`, where it is not None."""
    values = [value for s in scores if (value := getattr(s, rate)) is not None]
    return Average(
        mean=float(np.mean(values)) if values else None,
        standard_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        images=len(values),
    )
