"""Scores of pixels against their truth: rates at a threshold, and the areas under both curves.

A pixel counts as positive where its probability is at least the threshold. A score that is not
defined (no positive pixel, nothing predicted, ...) is `None`, never NaN.
"""

from dataclasses import dataclass

import numpy as np

from lib.pooled_pixels import PooledPixels
from lib.runtime.errors import UserError

RATES = (
    "auc_roc",
    "auc_pr",
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "iou",
    "mcc",
)
"""The fields of `Scores` that are averaged over images."""


@dataclass(frozen=True)
class Scores:
    """What one set of pixels scores; `None` where a score is not defined.

    Attributes:
        threshold: `None` if none was given; then only `pixels` and the two areas are known.
        auc_roc: area under the ROC curve.
        auc_pr: area under the precision-recall curve as average precision.
        f1: F1, which is the Dice coefficient.
        iou: TP / (TP + FP + FN), the Jaccard index.
        mcc: Matthews' correlation coefficient.
    """

    pixels: int
    threshold: float | None
    true_negatives: int | None
    false_positives: int | None
    false_negatives: int | None
    true_positives: int | None
    auc_roc: float | None
    auc_pr: float | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    precision: float | None
    f1: float | None
    iou: float | None
    mcc: float | None


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall curve, each thinned for drawing: (points,) float64 arrays."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


def score_pixels(probability: np.ndarray, truth: np.ndarray, threshold: float | None) -> Scores:
    """Score the pixels of one image.

    Args:
        probability: floats in [0, 1], of any shape.
        truth: {0, 1}, of the same shape.
        threshold: a pixel is predicted positive where `probability >= threshold`; `None` leaves all
            but the areas undefined.
    """
    return score_pool(PooledPixels([(probability, truth)]), threshold)[0]


def score_pool(
    pool: PooledPixels, threshold: float | None, *, areas: bool = True
) -> tuple[Scores, Curves | None]:
    """As `score_pixels`; the curves are None where the areas are not defined, or not asked for."""
    counts, rates = (None,) * 4, {}
    if threshold is not None:
        false_positives, true_positives = pool.at_least(threshold)
        counts = (
            pool.negatives - false_positives,
            false_positives,
            pool.positives - true_positives,
            true_positives,
        )
        rates = _rates(*counts)
    auc_roc, auc_pr, curves = None, None, None
    if areas and pool.negatives and pool.positives:
        auc_roc, auc_pr, curves = _areas_and_curves(pool)
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    undefined = dict.fromkeys(RATES)
    return Scores(
        pixels=pool.negatives + pool.positives,
        threshold=threshold,
        **dict(zip(names, counts, strict=True)),
        **(undefined | rates | {"auc_roc": auc_roc, "auc_pr": auc_pr}),
    ), curves


def score_nothing_predicted(pool: PooledPixels) -> Scores:
    """What a prediction of 0 everywhere scores on these pixels: chance in both areas."""
    negatives, positives = pool.negatives, pool.positives
    both = negatives and positives
    return Scores(
        negatives + positives,
        0.5,
        *(negatives, 0, positives, 0),
        auc_roc=0.5 if both else None,
        auc_pr=positives / (negatives + positives) if both else None,
        **_rates(negatives, 0, positives, 0),
    )


def choose_threshold(pool: PooledPixels) -> float:
    """The threshold of the greatest F1 over all distinct scores; the lowest of equals.

    To be called with the validation images, never with the test images.

    Raises:
        UserError: no pixel is positive, so that F1 is 0 at every threshold.
    """
    if not pool.positives:
        raise UserError(
            "no threshold can be chosen: none of the validation images has a positive pixel in its "
            "field of view; give a number instead, e.g. threshold = 0.5"
        )
    best_f1, threshold = -1.0, 0.0
    for counted in pool.by_score():
        f1 = 2 * counted.true_positives / (counted.predicted + pool.positives)
        if f1.max() > best_f1:
            best_f1, threshold = f1.max(), float(counted.scores[np.argmax(f1)])
    return threshold


def auc_roc(scores: np.ndarray, truth: np.ndarray) -> float:
    """The area under the ROC curve, exact, without the curve: twenty times faster than with it.

    The share of pairs of a positive and a negative pixel in which the positive one has the higher score;
    equal ones count half (Mann and Whitney; Hanley and McNeil, Radiology 143, 1982).

    Args:
        scores: (pixels,) finite floats.
        truth: (pixels,) bool, of both kinds.
    """
    positives, negatives = np.sort(scores[truth]), np.sort(scores[~truth])
    below, not_above = (
        np.searchsorted(negatives, positives, side).sum(dtype=np.int64)
        for side in ("left", "right")
    )
    return float((below + not_above) / (2 * positives.size * negatives.size))


def _areas_and_curves(pool: PooledPixels) -> tuple[float, float, Curves]:
    """Areas under the ROC curve (trapezia) and under the precision-recall curve (steps), and the curves."""
    area = average_precision = 0.0
    parts = []
    for counted in pool.by_score():
        hits, false_positives = counted.positives, counted.false_positives
        precision = counted.true_positives / counted.predicted
        # Not by `@`, for whose sums BLAS keeps every core spinning.
        area += np.sum(hits * (pool.negatives - false_positives + counted.negatives / 2))
        average_precision += np.sum(hits * precision)
        # Where a run of negatives begins or ends; between, the curves are straight.
        corners = (hits > 0) | np.append(True, hits[:-1] > 0)
        rates = np.stack(
            [
                false_positives[corners] / pool.negatives,
                counted.true_positives[corners] / pool.positives,
                precision[corners],
            ]
        )
        parts.append(rates[:, np.union1d(_spread(*rates[:2]), _spread(*rates[1:]))])
    end = [[0], [0], [1]]
    false_positive_rate, recall, precision = np.concatenate([*parts, end], axis=1)
    roc = _spread(false_positive_rate, recall)[::-1]
    pr = _spread(recall, precision)
    return (
        float(area / pool.negatives / pool.positives),
        float(average_precision / pool.positives),
        Curves(false_positive_rate[roc], recall[roc], recall[pr], precision[pr]),
    )


def _spread(x: np.ndarray, y: np.ndarray, points: int = 2000) -> np.ndarray:
    """Which points of a curve to draw: about `points`, evenly spread along its length."""
    length = np.cumsum(np.hypot(np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1])))
    keep = np.searchsorted(length, np.linspace(0, length[-1], points))
    return np.union1d(np.minimum(keep, x.size - 1), [0, x.size - 1])


def _rates(tn: int, fp: int, fn: int, tp: int) -> dict[str, float | None]:
    return {
        "accuracy": ratio(tp + tn, tp + tn + fp + fn),
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "precision": ratio(tp, tp + fp),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "iou": ratio(tp, tp + fp + fn),
        "mcc": ratio(tp * tn - fp * fn, ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5),
    }


def ratio(numerator: float, denominator: float) -> float | None:
    """None where it is not defined."""
    return numerator / denominator if denominator else None
