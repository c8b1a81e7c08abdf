"""Scores of predicted images inside the field of view, pooled and per image, and of two baselines.

A pixel is predicted positive if its probability is at least the threshold. A score that is not defined (no
positive pixel, nothing predicted, ...) is `None`, never NaN, and is left out of means.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.evaluation.connectivity import Connectivity, measure_connectivity
from lib.evaluation.measures.image_measures import ImageMeasures, measure_image
from lib.evaluation.pixel_scores import (
    RATES,
    Curves,
    Scores,
    defined,
    f1_score,
    score_nothing_predicted,
    score_pixels,
    score_pool,
)
from lib.evaluation.pooled_pixels import PooledPixels
from lib.images.masks import binary_mask
from lib.runtime.errors import UserError

MIN_AREAS = (0, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Pixels; the candidates of `choose_min_area`."""

DARKNESS_SIGMA = 2.0
"""Pixels; the standard deviation of the Gaussian in `blurred_darkness`."""


@dataclass(frozen=True)
class PredictedImage:
    """One image with its truth and its prediction.

    Attributes:
        name: file name without its ending.
        patient: name of the patient.
        probability: (H, W) float32 in [0, 1].
        truth: (H, W) uint8 in {0, 1}.
        field_of_view: (H, W) uint8 in {0, 1}.
        original: (H, W) or (H, W, 3) uint8, as in the data set.
        second_observer: (H, W) uint8 in {0, 1}, the truth of another person; None if there is none.
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
    """The scores of one image inside its field of view; measures are None in files of earlier versions."""

    name: str
    patient: str
    scores: Scores
    measures: ImageMeasures | None = None


@dataclass(frozen=True)
class Average:
    """Mean and sample standard deviation (ddof = 1) over the `images` with a defined score."""

    mean: float | None
    standard_deviation: float | None
    images: int


@dataclass(frozen=True)
class Evaluation:
    """All scores of a test.

    Attributes:
        threshold: of the probabilities of the network.
        in_field_of_view: the main result: the network on the FOV pixels of all images, pooled.
        whole_image: the network on all pixels, pooled; the dark border makes these scores too good.
        blurred_darkness: this baseline on the pooled FOV pixels.
        all_background: a baseline that predicts 0 everywhere, on the pooled FOV pixels.
        second_observer: a person against the first observer, on the pooled FOV pixels, without areas, because
            a mask is one point of a curve; None unless every image has one.
        per_image: scores of the FOV pixels of each image, in the order given.
        connectivity: of the vessels of each image, FOV pixels; empty if it was not requested.
        averages: for each name in `RATES`, its average over `per_image`.
        curves: of `in_field_of_view`; None if the areas are not defined.
        darkness_curves: of `blurred_darkness`; None if the areas are not defined.
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
    """Scores test images one after the other, so that memory does not grow with their number.

    Args:
        threshold: for the network, chosen without the test images.
        darkness_threshold: for `blurred_darkness`, chosen likewise; None: this baseline has areas only.
        connectivity: measure the connectivity of vessels; takes about a second per image.
        structure: [data attributes] structure; vessels have neither areas nor index (`measure_image`).
    """

    def __init__(
        self,
        threshold: float,
        darkness_threshold: float | None = None,
        *,
        connectivity: bool = False,
        structure: str = "",
    ) -> None:
        self._threshold, self._darkness_threshold = threshold, darkness_threshold
        self._structure = structure
        self._network, self._whole = PooledPixels(), PooledPixels()
        self._darkness, self._human = PooledPixels(), PooledPixels()
        self._per_image: list[ImageScores] = []
        self._connectivity: list[Connectivity] | None = [] if connectivity else None
        self._all_have_second_observer = True

    def add(self, case: PredictedImage) -> Scores:
        """Add an image; returns its own scores inside the field of view.

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
        measures = measure_image(probability, truth, inside, self._threshold, self._structure)
        self._per_image.append(ImageScores(case.name, case.patient, scores, measures))
        if self._connectivity is not None:
            mask = (case.probability >= self._threshold) & inside
            self._connectivity.append(measure_connectivity(mask, (case.truth > 0) & inside))
        return scores

    def evaluation(self) -> Evaluation:
        """Scores of all images that were added.

        Raises:
            UserError: no image was added.
        """
        if not self._per_image:
            raise UserError("there is no test image to score; expected at least one")
        in_field_of_view, curves = score_pool(self._network, self._threshold)
        darkness, darkness_curves = score_pool(self._darkness, self._darkness_threshold)
        scores = [image.scores for image in self._per_image]
        return Evaluation(
            threshold=self._threshold,
            in_field_of_view=in_field_of_view,
            whole_image=score_pool(self._whole, self._threshold)[0],
            blurred_darkness=darkness,
            all_background=score_nothing_predicted(self._network),
            second_observer=self._second_observer(),
            per_image=tuple(self._per_image),
            connectivity=tuple(self._connectivity or ()),
            averages={rate: average(scores, rate) for rate in RATES},
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
    """Score all images with `Scoring`."""
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
    """The smallest area in pixels, among `MIN_AREAS`, with the greatest pooled F1; the lowest of several."""
    f1 = f1_of_masks(cases, threshold, MIN_AREAS)
    return max(MIN_AREAS, key=lambda pixels: f1[pixels] or 0.0)


def f1_of_masks(
    cases: Iterable[PredictedImage], threshold: float, min_areas: Sequence[int]
) -> dict[int, float | None]:
    """Pooled F1 of the FOV pixels, for masks without areas below each size; None if it is not defined."""
    counts = {pixels: np.zeros(3, np.int64) for pixels in min_areas}  # TP, FP, FN
    for case in cases:
        truth = (case.truth > 0) & (case.field_of_view > 0)
        for pixels, counted in counts.items():
            mask = binary_mask(case.probability, case.field_of_view, threshold, pixels)
            counted += [np.count_nonzero(m) for m in (mask & truth, mask & ~truth, truth & ~mask)]
    return {pixels: defined(f1_score(*counted)) for pixels, counted in counts.items()}


def blurred_darkness(original: np.ndarray) -> np.ndarray:
    """Darkness of an image around each pixel: the baseline without a network.

    Args:
        original: (H, W) or (H, W, 3) RGB, uint8.

    Returns:
        (H, W) float32 in [0, 1]: 1 - (grey, blurred by a Gaussian of 2 pixels) / 255.
    """
    values = original.astype(np.float32)
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY) if values.ndim == 3 else values
    blurred = cv2.GaussianBlur(grey, (0, 0), DARKNESS_SIGMA)
    return np.clip(1 - blurred / 255, 0, 1)


def average(scores: Sequence[object], rate: str) -> Average:
    """Average of the attribute `rate` of `scores`; None is left out."""
    values = [value for s in scores if (value := getattr(s, rate)) is not None]
    return Average(
        mean=float(np.mean(values)) if values else None,
        standard_deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        images=len(values),
    )
