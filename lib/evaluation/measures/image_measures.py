"""The measures of one image, and their means or pooled values over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.evaluation.measures.agreement import icc_2_1, mean_squares
from lib.evaluation.measures.areas import SIZES, AreaCounts, count_areas
from lib.evaluation.measures.boundary import TOLERANCES_PX, boundary_agreement
from lib.evaluation.pixel_scores import f1_score

VESSELS = ("vessel", "vessels")
"""[data attributes] structure without single areas and without an index: vessels are one connected tree."""

MEASURES = {
    **{f"nsd_{most}_px": f"NSD, tolerance {most} pixels" for most in TOLERANCES_PX},
    "hd95_px": "HD95, pixels",
    "brier": "Brier score",
    "area_f1": "F1 of areas",
    "area_sensitivity": "Sensitivity of areas",
    "false_areas": "False areas an image",
    **{f"area_f1_{size}": f"F1 of {size} areas" for size in SIZES},
    **{f"area_sensitivity_{size}": f"Sensitivity of {size} areas" for size in SIZES},
    **{f"false_areas_{size}": f"False {size} areas an image" for size in SIZES},
    "index_icc": "Index: ICC(2,1)",
    "index_mae": "Index: mean absolute error",
    "index_bias": "Index: bias (predicted - true)",
    "index_lower_limit": "Index: lower limit of agreement",
    "index_upper_limit": "Index: upper limit of agreement",
    "presence_auc": "AUC-ROC of presence in an image",
}
"""Names and titles of the values of `summarise`."""


@dataclass(frozen=True)
class ImageMeasures:
    """Measures of one image inside its field of view; None where one is not defined.

    Attributes:
        pixels: number of FOV pixels.
        nsd: for each of `TOLERANCES_PX`, as in `BoundaryAgreement`.
        hd95: pixels, as in `BoundaryAgreement`.
        brier: mean squared difference of probability and truth.
        index: predicted share of the field of view; the ischaemic index of non-perfusion. None for vessels.
        index_truth: true share of the field of view; likewise.
        areas: None for vessels.
    """

    pixels: int
    nsd: tuple[float | None, ...]
    hd95: float | None
    brier: float | None
    index: float | None = None
    index_truth: float | None = None
    areas: AreaCounts | None = None

    @classmethod
    def from_json(cls, values: Mapping) -> ImageMeasures:
        """The measures of `dataclasses.asdict`."""
        areas = values["areas"] and AreaCounts(**{k: tuple(v) for k, v in values["areas"].items()})
        return cls(**{**values, "nsd": tuple(values["nsd"]), "areas": areas})

    def columns(self) -> dict[str, float | int | None]:
        """The columns of per_image.csv."""
        return {
            **{f"nsd_{most}_px": nsd for most, nsd in zip(TOLERANCES_PX, self.nsd, strict=True)},
            "hd95_px": self.hd95,
            "brier": self.brier,
            "index": self.index,
            "index_truth": self.index_truth,
            **{
                f"areas_{kind}": None if self.areas is None else sum(getattr(self.areas, kind))
                for kind in ("found", "missed", "false")
            },
        }


def measure_image(
    scores: np.ndarray, truth: np.ndarray, field_of_view: np.ndarray, threshold: float, structure: str = ""
) -> ImageMeasures:
    """Measure one image.

    Args:
        scores: (pixels,) float in [0, 1]: the FOV pixels.
        truth: (pixels,) {0, 1} or bool.
        field_of_view: (H, W) bool.
        threshold: a pixel is predicted positive if its score is at least this.
        structure: [data attributes] structure; vessels have neither areas nor index.
    """
    predicted, true = np.zeros((2, *field_of_view.shape), bool)
    predicted[field_of_view], true[field_of_view] = scores >= threshold, truth > 0
    boundary, pixels = boundary_agreement(predicted, true), scores.size
    brier = float(np.mean((scores - truth.astype(np.float32)) ** 2, dtype=np.float64)) if pixels else None
    measured = ImageMeasures(pixels, boundary.nsd, boundary.hd95, brier)
    if structure.lower() in VESSELS or not pixels:
        return measured
    return replace(
        measured,
        index=np.count_nonzero(predicted) / pixels,
        index_truth=np.count_nonzero(true) / pixels,
        areas=count_areas(predicted, true, pixels),
    )


def index_pairs(images: Sequence[ImageMeasures]) -> np.ndarray:
    """(images, 2) float64: predicted and true index; NaN where there is none."""
    return np.array([(image.index, image.index_truth) for image in images], float).reshape(-1, 2)


def summarise(images: Sequence[ImageMeasures], weights: np.ndarray) -> np.ndarray:
    """All `MEASURES` of samples of images.

    NSD and HD95 are means over the images where they are defined; the Brier score is that of the pooled
    pixels; numbers of areas are summed over the images before F1 and sensitivity.

    Args:
        images: measures of each image.
        weights: (..., images): how often each image is in the sample.

    Returns:
        (MEASURES, ...) float64, NaN where a measure is not defined.
    """
    boundary = np.array([(*image.nsd, image.hd95) for image in images], float)
    brier = np.array([image.brier for image in images], float)
    return np.stack(
        [
            *(_mean(column, weights) for column in boundary.T),
            _mean(brier, weights * [image.pixels for image in images]),
            *_of_areas(images, weights),
            *_of_index(index_pairs(images), weights),
        ]
    )


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return weights[..., known] @ values[known] / weights[..., known].sum(axis=-1)


def _of_areas(images: Sequence[ImageMeasures], weights: np.ndarray) -> list[np.ndarray]:
    """F1, sensitivity and false areas an image: of all areas, then each for all sizes."""
    nothing = np.full((3, len(SIZES)), np.nan)
    counts = [
        nothing if (a := image.areas) is None else np.array([a.found, a.missed, a.false], float)
        for image in images
    ]
    known = np.array([image.areas is not None for image in images])
    sums = np.moveaxis(np.tensordot(weights[..., known], np.array(counts)[known], 1), (-2, -1), (0, 1))
    found, missed, false = np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1, sensitivity = f1_score(found, false, missed), found / (found + missed)
        each = false / weights[..., known].sum(axis=-1)
    measures = (np.asarray(f1), sensitivity, each)
    return [*(m[0] for m in measures), *(by_size for m in measures for by_size in m[1:])]


def _of_index(pairs: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Agreement of the index of the images that have one, and the AUC of presence by predicted index."""
    known = np.isfinite(pairs).all(axis=1)
    pairs, weights = pairs[known], weights[..., known]
    difference, number = pairs[:, 0] - pairs[:, 1], weights.sum(axis=-1)
    bias = _mean(difference, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = (weights * (difference - bias[..., None]) ** 2).sum(axis=-1)
        width = 1.96 * np.sqrt(squares / np.where(number > 1, number - 1, np.nan))
        present = pairs[:, 1] > 0
        higher = np.subtract.outer(pairs[present, 0], pairs[~present, 0])
        with_it, without = weights[..., present], weights[..., ~present]
        ordered = ((with_it @ (np.sign(higher) / 2 + 0.5)) * without).sum(axis=-1)
        auc = ordered / (with_it.sum(axis=-1) * without.sum(axis=-1))
    icc = icc_2_1(mean_squares(pairs, weights))
    return [icc, _mean(np.abs(difference), weights), bias, bias - width, bias + width, auc]
