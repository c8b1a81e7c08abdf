"""Predicted areas against true areas (Bland-Altman), and probabilities against frequencies (calibration)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.calibration import calibration_curve


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Limits that contain 95 % of the differences if these are normally distributed.

    Attributes:
        bias: mean difference, measured - true.
        lower: bias - 1.96 standard deviations; None for fewer than two measurements.
        upper: bias + 1.96 standard deviations; None likewise.
    """

    bias: float
    lower: float | None
    upper: float | None


def limits_of_agreement(measured: np.ndarray, true: np.ndarray) -> LimitsOfAgreement:
    """Bias and limits of agreement (Bland and Altman, Lancet 327, 1986) of (n,) measurements."""
    difference = np.asarray(measured, float) - np.asarray(true, float)
    bias = float(difference.mean())
    if difference.size < 2:
        return LimitsOfAgreement(bias, None, None)
    width = 1.96 * float(difference.std(ddof=1))
    return LimitsOfAgreement(bias, bias - width, bias + width)


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often pixels of similar probability are positive, in equally wide bins of [0, 1].

    Attributes:
        pixels: (bins,) int64: number of pixels in each bin.
        probability: (bins with pixels,) float64: mean probability.
        frequency: (bins with pixels,) float64: share of positive pixels.
    """

    pixels: np.ndarray
    probability: np.ndarray
    frequency: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean of |probability - frequency|, weighted by pixels (Naeini et al., AAAI 2015)."""
        distance = np.abs(self.probability - self.frequency)
        return float(np.average(distance, weights=self.pixels[self.pixels > 0]))


def reliability(images: Sequence[tuple[np.ndarray, np.ndarray]], bins: int = 10) -> Reliability:
    """Pool the pixels of images, each (probability, truth), both (pixels,)."""
    probability, truth = (np.concatenate(arrays) for arrays in zip(*images, strict=True))
    frequency, mean = calibration_curve(truth, probability, n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)  # the bins of calibration_curve, which returns no counts
    pixels = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=bins)
    return Reliability(pixels, mean, frequency)
