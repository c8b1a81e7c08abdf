"""Scores of pixels against their truth: rates at a threshold, and areas under the two curves.

A pixel is predicted positive if its probability is at least the threshold. A score that is not defined (no
positive pixel, nothing predicted, ...) is `None`, never NaN.
"""

from dataclasses import dataclass

import numpy as np

from lib.evaluation.pooled_pixels import PooledPixels
from lib.runtime.errors import UserError

RATES = ("auc_roc", "auc_pr", "accuracy", "sensitivity", "specificity", "precision", "f1", "iou", "mcc")
"""The fields of `Scores` that are averaged over images."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of pixels; None where a score is not defined.

    Attributes:
        threshold: None if none was given; then only `pixels` and the two areas are known.
        auc_roc: area under the ROC curve.
        auc_pr: area under the precision-recall curve as average precision.
        f1: F1, which is the Dice coefficient.
        iou: TP / (TP + FP + FN), the Jaccard index.
        mcc: Matthews' correlation coefficient.
    """

    pixels: int
    threshold: float | None = None
    true_negatives: int | None = None
    false_positives: int | None = None
    false_negatives: int | None = None
    true_positives: int | None = None
    auc_roc: float | None = None
    auc_pr: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    precision: float | None = None
    f1: float | None = None
    iou: float | None = None
    mcc: float | None = None


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall curve with few points, for drawing: (points,) float64 arrays."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


def score_pixels(probability: np.ndarray, truth: np.ndarray, threshold: float | None) -> Scores:
    """Score the pixels of one image.

    Args:
        probability: floats in [0, 1], of any shape.
        truth: {0, 1}, of the same shape.
        threshold: None if only the areas are needed.
    """
    return score_pool(PooledPixels([(probability, truth)]), threshold)[0]


def score_pool(
    pool: PooledPixels, threshold: float | None, *, areas: bool = True
) -> tuple[Scores, Curves | None]:
    """As `score_pixels`, and the curves: None where the areas are not defined, or if `areas` is False."""
    auc_roc, auc_pr, curves = None, None, None
    if areas and pool.negatives and pool.positives:
        auc_roc, auc_pr, curves = _areas_and_curves(pool)
    if threshold is None:
        return Scores(pool.negatives + pool.positives, auc_roc=auc_roc, auc_pr=auc_pr), curves
    return _scores(pool, threshold, pool.at_least(threshold), (auc_roc, auc_pr)), curves


def score_nothing_predicted(pool: PooledPixels) -> Scores:
    """Scores of a prediction of 0 for every pixel; both areas are those of chance."""
    prevalence = _ratio(pool.positives, pool.negatives + pool.positives)
    both_classes = pool.negatives and pool.positives
    return _scores(pool, 0.5, (0, 0), (0.5, prevalence) if both_classes else (None, None))


def choose_threshold(pool: PooledPixels) -> float:
    """The threshold with the greatest F1 among all distinct scores; the lowest of several.

    Call it with the validation images, never with the test images.

    Raises:
        UserError: no pixel is positive.
    """
    if not pool.positives:
        raise UserError(
            "no threshold can be chosen: none of the validation images has a positive pixel in its "
            "field of view; give a number instead, e.g. threshold = 0.5"
        )
    best_f1, threshold = -1.0, 0.0
    for counted in pool.by_score():
        tp, fp = counted.true_positives, counted.false_positives
        f1 = f1_score(tp, fp, pool.positives - tp)
        if f1.max() > best_f1:
            best_f1, threshold = f1.max(), float(counted.scores[np.argmax(f1)])
    return threshold


def _areas_and_curves(pool: PooledPixels) -> tuple[float, float, Curves]:
    """Areas under the ROC curve (trapezoids) and the precision-recall curve (steps), and the curves."""
    area = average_precision = 0.0
    parts = []
    for counted in pool.by_score():
        hits, tp, fp = counted.positives, counted.true_positives, counted.false_positives
        precision = tp / (tp + fp)
        # np.sum instead of `@`: BLAS would keep every core busy.
        area += np.sum(hits * (pool.negatives - fp + counted.negatives / 2))
        average_precision += np.sum(hits * precision)
        # Points where a run of negatives begins or ends; the curves are straight between them.
        corners = (hits > 0) | np.append(True, hits[:-1] > 0)
        rates = np.stack([fp / pool.negatives, tp / pool.positives, precision])[:, corners]
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
    """Indices of about `points` points of a curve, evenly spaced along its length."""
    length = np.cumsum(np.hypot(np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1])))
    keep = np.searchsorted(length, np.linspace(0, length[-1], points))
    return np.union1d(np.minimum(keep, x.size - 1), [0, x.size - 1])


def _scores(
    pool: PooledPixels, threshold: float, positives: tuple[int, int], areas: tuple[float | None, float | None]
) -> Scores:
    """Scores at a threshold, from the false and true positives and the areas under the two curves."""
    fp, tp = positives
    tn, fn = pool.negatives - fp, pool.positives - tp
    return Scores(
        tn + fp + fn + tp,
        threshold,
        *(tn, fp, fn, tp),
        *areas,
        accuracy=_ratio(tp + tn, tp + tn + fp + fn),
        sensitivity=_ratio(tp, tp + fn),
        specificity=_ratio(tn, tn + fp),
        precision=_ratio(tp, tp + fp),
        f1=defined(f1_score(tp, fp, fn)),
        iou=_ratio(tp, tp + fp + fn),
        mcc=_ratio(tp * tn - fp * fn, ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5),
    )


def f1_score(tp: np.ndarray | int, fp: np.ndarray | int, fn: np.ndarray | int) -> np.ndarray | np.floating:
    """F1 of pixels, which is the Dice coefficient: 2 TP / (2 TP + FP + FN), elementwise; NaN for 0 / 0."""
    with np.errstate(invalid="ignore"):
        return np.divide(2 * tp, 2 * tp + fp + fn)


def format_score(value: float | str | None, form: str = ".4f") -> str:
    """A score as text, n/a for None; whole numbers and words are written as they are."""
    if value is None:
        return "n/a"
    return f"{value:{form}}" if isinstance(value, float) else str(value)


def defined(score: float | np.ndarray | np.floating) -> float | None:
    """A single score as a float; None for NaN."""
    return float(score) if np.isfinite(score) else None


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
