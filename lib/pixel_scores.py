"""Scores of pixels against their truth: rates at a threshold, and the areas under both curves.

A pixel counts as positive where its probability is at least the threshold. A score that is not
defined (no positive pixel, nothing predicted, ...) is `None`, never NaN.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, precision_recall_curve, roc_curve

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
    """Score pixels that are all to be counted.

    Args:
        probability: finite floats of any shape.
        truth: {0, 1}, of the same shape.
        threshold: a pixel is predicted positive where `probability >= threshold`; `None` leaves all
            but the areas undefined.
    """
    return score_with_curves(probability, truth, threshold)[0]


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


def sorted_pixels(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores from the lowest to the highest, and their labels: (pixels,) floats and bool."""
    scores, labels = np.ravel(probability), np.ravel(truth) > 0
    order = np.argsort(scores)
    return scores[order], labels[order]


def score_with_curves(
    probability: np.ndarray, truth: np.ndarray, threshold: float | None
) -> tuple[Scores, Curves | None]:
    """As `score_pixels`; the curves are None where the areas are not defined."""
    scores, labels = sorted_pixels(probability, truth)
    counts, rates = (None,) * 4, {}
    if threshold is not None:
        counts = _confusion(scores, labels, threshold)
        rates = _rates(*counts)
    auc_roc, auc_pr, curves = None, None, None
    if labels.any() and not labels.all():
        auc_roc, auc_pr, curves = _areas_and_curves(scores, labels)
    names = ("true_negatives", "false_positives", "false_negatives", "true_positives")
    undefined = dict.fromkeys(RATES)
    return Scores(
        pixels=labels.size,
        threshold=threshold,
        **dict(zip(names, counts, strict=True)),
        **(undefined | rates | {"auc_roc": auc_roc, "auc_pr": auc_pr}),
    ), curves


def _areas_and_curves(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, Curves]:
    """Areas and curves of sorted scores."""
    scores, labels, weights = _merged(scores, labels)
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores, sample_weight=weights)
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=weights)
    # Average precision, of the curve that is there already.
    average_precision = -np.sum(np.diff(recall) * precision[:-1])
    return (
        float(auc(false_positive_rate, true_positive_rate)),
        float(average_precision),
        Curves(*_thinned(false_positive_rate, true_positive_rate), *_thinned(recall, precision)),
    )


def _merged(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted pixels as fewer, weighted ones that have the same curves and areas.

    Pixels of one score become one of each class; distinct scores that only negatives have, with no
    positive between them, become one. Positives being few, that saves scikit-learn most of its time
    and memory.

    Returns:
        Scores, labels and weights, each (merged pixels,).
    """
    starts = np.flatnonzero(np.diff(scores, prepend=np.nan) != 0)
    has_positive = np.logical_or.reduceat(labels, starts)
    starts = starts[has_positive | np.concatenate([[True], has_positive[:-1]])]
    positives = np.add.reduceat(labels, starts, dtype=np.int64)
    weights = np.concatenate([np.diff(starts, append=labels.size) - positives, positives])
    merged_labels = np.repeat([0, 1], starts.size)
    counted = weights > 0
    return np.tile(scores[starts], 2)[counted], merged_labels[counted], weights[counted]


def _thinned(x: np.ndarray, y: np.ndarray, points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """About `points` of a curve's points, evenly spread along its length."""
    length = np.cumsum(np.hypot(np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1])))
    keep = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)))
    keep = np.union1d(np.minimum(keep, x.size - 1), [0, x.size - 1])
    return x[keep], y[keep]


def _confusion(
    probability: np.ndarray, truth: np.ndarray, threshold: float
) -> tuple[int, int, int, int]:
    """TN, FP, FN, TP."""
    predicted = probability >= threshold
    # Python's own integers: the product in Matthews' coefficient overflows 64 bits.
    true_positives = int(np.count_nonzero(predicted & truth))
    false_positives = int(np.count_nonzero(predicted)) - true_positives
    false_negatives = int(np.count_nonzero(truth)) - true_positives
    true_negatives = truth.size - true_positives - false_positives - false_negatives
    return true_negatives, false_positives, false_negatives, true_positives


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
