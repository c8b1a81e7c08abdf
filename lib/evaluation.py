"""Scores of predicted images: over the field of view, pooled and per image, beside two baselines.

A pixel counts as positive where its probability is at least the threshold. A score that is not
defined (no positive pixel, nothing predicted, ...) is `None`, never NaN, and is left out of means.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.connectivity import Connectivity, measure_connectivity
from lib.images.masks import binary_mask
from lib.pixel_scores import (
    RATES,
    Curves,
    Scores,
    ratio,
    score_nothing_predicted,
    score_pixels,
    score_pool,
)
from lib.pooled_pixels import PooledPixels
from lib.runtime.errors import UserError

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
        original: (H, W) or (H, W, 3) uint8, as it was packed.
        second_observer: (H, W) uint8 in {0, 1}, another person's truth; None where there is none.
    """

    name: str
    patient: str
    probability: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray
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


class Scoring:
    """Test images scored by the project's protocol one after the other, so that none need be kept.

    Args:
        threshold: for the network, chosen without looking at the images.
        darkness_threshold: for `blurred_darkness`, chosen likewise; without it that baseline has
            areas only.
        connectivity: measure how vessels hang together; takes about a second an image.
    """

    def __init__(
        self,
        threshold: float,
        darkness_threshold: float | None = None,
        *,
        connectivity: bool = False,
    ) -> None:
        self._threshold, self._darkness_threshold = threshold, darkness_threshold
        self._network, self._whole, self._darkness, self._human = (PooledPixels() for _ in range(4))
        self._per_image: list[ImageScores] = []
        self._connectivity: list[Connectivity] | None = [] if connectivity else None
        self._all_have_second_observer = True

    def add(self, case: PredictedImage) -> Scores:
        """Count an image in; its own scores inside the field of view.

        Raises:
            UserError: a probability is not finite.
        """
        refuse_not_finite(case)
        inside = case.field_of_view > 0
        probability, truth = case.probability[inside], case.truth[inside]
        self._network.add(probability, truth)
        self._whole.add(case.probability, case.truth)
        self._darkness.add(blurred_darkness(case.original)[inside], truth)
        if case.second_observer is None:
            self._all_have_second_observer = False
        else:
            self._human.add(case.second_observer[inside], truth)
        scores = score_pixels(probability, truth, self._threshold)
        self._per_image.append(ImageScores(case.name, case.patient, scores))
        if self._connectivity is not None:
            mask = (case.probability >= self._threshold) & inside
            self._connectivity.append(measure_connectivity(mask, (case.truth > 0) & inside))
        return scores

    def evaluation(self) -> Evaluation:
        """All images together.

        Raises:
            UserError: there was none.
        """
        if not self._per_image:
            raise UserError("there is no test image to score; expected at least one")
        in_field_of_view, curves = score_pool(self._network, self._threshold)
        darkness, darkness_curves = score_pool(self._darkness, self._darkness_threshold)
        every = [image.scores for image in self._per_image]
        return Evaluation(
            threshold=self._threshold,
            in_field_of_view=in_field_of_view,
            whole_image=score_pool(self._whole, self._threshold)[0],
            blurred_darkness=darkness,
            all_background=score_nothing_predicted(self._network),
            second_observer=self._second_observer(),
            per_image=tuple(self._per_image),
            connectivity=tuple(self._connectivity or ()),
            averages={rate: average(every, rate) for rate in RATES},
            curves=curves,
            darkness_curves=darkness_curves,
        )

    def _second_observer(self) -> Scores | None:
        if not self._all_have_second_observer:
            return None
        scores, _ = score_pool(self._human, 0.5, areas=False)
        return replace(scores, threshold=None)


def evaluate(
    cases: Iterable[PredictedImage],
    threshold: float,
    darkness_threshold: float | None = None,
    *,
    connectivity: bool = False,
) -> Evaluation:
    """`Scoring` of all images at once."""
    scoring = Scoring(threshold, darkness_threshold, connectivity=connectivity)
    for case in cases:
        scoring.add(case)
    return scoring.evaluation()


def refuse_not_finite(case: PredictedImage) -> None:
    """Raise a `UserError` that names the image if a probability is not finite."""
    if not np.isfinite(case.probability).all():
        raise UserError(
            f"{case.name}: the network predicts NaN or infinity; expected probabilities in "
            "[0, 1]; its training diverged: lower learning_rate and train again"
        )


def choose_min_area(cases: Iterable[PredictedImage], threshold: float) -> int:
    """Below how many pixels areas are best dropped: of `MIN_AREAS`, the least with the best pooled F1."""
    f1 = f1_of_masks(cases, threshold, MIN_AREAS)
    return max(MIN_AREAS, key=lambda pixels: f1[pixels] or 0.0)


def f1_of_masks(
    cases: Iterable[PredictedImage], threshold: float, min_areas: Sequence[int]
) -> dict[int, float | None]:
    """F1 over the pooled FOV pixels of masks without areas below each size; None: nothing is positive."""
    counts = {pixels: np.zeros(2, np.int64) for pixels in min_areas}
    for case in cases:
        truth = (case.truth > 0) & (case.field_of_view > 0)
        positive = np.count_nonzero(truth)
        for pixels, counted in counts.items():
            mask = binary_mask(case.probability, case.field_of_view, threshold, pixels)
            counted += 2 * np.count_nonzero(mask & truth), np.count_nonzero(mask) + positive
    return {pixels: ratio(*counted.tolist()) for pixels, counted in counts.items()}


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


def average(scores: Sequence[object], rate: str) -> Average:
    """Of the attribute `rate` of each of `scores`, where it is not None."""
    values = [value for s in scores if (value := getattr(s, rate)) is not None]
    return Average(
        mean=float(np.mean(values)) if values else None,
        standard_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        images=len(values),
    )
