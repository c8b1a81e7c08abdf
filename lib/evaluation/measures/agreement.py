"""Agreement of two or more raters on one number: intraclass correlation ICC(2,1)."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, eq=False)
class MeanSquares:
    """Mean squares of a two-way analysis of variance without replication; all arrays have one shape.

    Attributes:
        subjects: number of subjects, such as images.
        raters: number of raters.
        between_subjects: float64.
        between_raters: float64.
        error: float64.
    """

    subjects: np.ndarray
    raters: int
    between_subjects: np.ndarray
    between_raters: np.ndarray
    error: np.ndarray


def mean_squares(ratings: np.ndarray, weights: np.ndarray) -> MeanSquares:
    """Mean squares of (subjects, raters) ratings, for each sample of subjects.

    Args:
        ratings: (subjects, raters) float64.
        weights: (..., subjects): how often each subject is in the sample.
    """
    raters = ratings.shape[1]
    subjects = weights.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_raters = weights @ ratings / subjects[..., None]
        grand = of_raters.mean(axis=-1)[..., None]
        freedom = np.where(subjects > 1, subjects - 1, np.nan)
        between = raters * (weights * (ratings.mean(axis=1) - grand) ** 2).sum(axis=-1)
        raters_sum = subjects * ((of_raters - grand) ** 2).sum(axis=-1)
        residual = ratings - ratings.mean(axis=1, keepdims=True) - of_raters[..., None, :] + grand[..., None]
        error = (weights * (residual**2).sum(axis=-1)).sum(axis=-1)
        return MeanSquares(
            subjects, raters, between / freedom, raters_sum / (raters - 1), error / freedom / (raters - 1)
        )


def icc_2_1(squares: MeanSquares) -> np.ndarray:
    """ICC(2,1): absolute agreement of single ratings (Shrout and Fleiss, Psychol. Bull. 86, 1979).

    NaN for fewer than two subjects, or if all ratings are equal.
    """
    n, k = squares.subjects, squares.raters
    with np.errstate(divide="ignore", invalid="ignore"):
        return (squares.between_subjects - squares.error) / (
            squares.between_subjects
            + (k - 1) * squares.error
            + k * (squares.between_raters - squares.error) / n
        )


def icc_interval(squares: MeanSquares) -> tuple[float, float]:
    """95 % interval of ICC(2,1) of one sample, by F distributions.

    McGraw and Wong, Psychol. Methods 1, 1996. Subjects are taken as independent. NaN if there is no ICC.
    """
    n, k, icc = squares.subjects, squares.raters, icc_2_1(squares)
    rows, columns, error = squares.between_subjects, squares.between_raters, squares.error
    with np.errstate(divide="ignore", invalid="ignore"):
        a = k * icc / (n * (1 - icc))
        b = 1 + k * icc * (n - 1) / (n * (1 - icc))
        freedom = (a * columns + b * error) ** 2 / (
            (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
        )
        above = stats.f.ppf(0.975, n - 1, freedom)
        below = stats.f.ppf(0.975, freedom, n - 1)
        rest = k * columns + (k * n - k - n) * error
        low = n * (rows - above * error) / (above * rest + n * rows)
        high = n * (below * rows - error) / (rest + n * below * rows)
    return float(low), float(high)
