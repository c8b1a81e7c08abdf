"""Whether predictions can be taken at their word: areas beside true ones, probability beside frequency."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Between which limits 95 % of the differences lie, if they are normally distributed.

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
    """How often pixels of about the same probability are positive.

    Attributes:
        pixels: (bins,) int64: pixels in each of the equally wide bins of [0, 1].
        probability: (bins,) float64: their mean probability; NaN where there is no pixel.
        frequency: (bins,) float64: the share of them that is positive; NaN likewise.
    """

    pixels: np.ndarray
    probability: np.ndarray
    frequency: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of probability and frequency, weighted by pixels (Naeini et al., AAAI 2015)."""
        distance = np.abs(self.probability - self.frequency)
        return float(np.nansum(distance * self.pixels) / self.pixels.sum())


def reliability(images: Sequence[tuple[np.ndarray, np.ndarray]], bins: int = 10) -> Reliability:
    """Of (probability, truth), each (pixels,), of some images, pooled."""
    pixels, probability, positive = np.zeros((3, bins))
    for predicted, truth in images:
        of_bin = np.minimum((predicted * bins).astype(int), bins - 1)
        pixels += np.bincount(of_bin, minlength=bins)
        probability += np.bincount(of_bin, predicted, minlength=bins)
        positive += np.bincount(of_bin, truth, minlength=bins)
    filled = np.where(pixels > 0, pixels, np.nan)
    return Reliability(pixels.astype(np.int64), probability / filled, positive / filled)
