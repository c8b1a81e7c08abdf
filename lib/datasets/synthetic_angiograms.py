"""Synthetic fluorescein angiograms of branch retinal vein occlusion, with exact truth.

The demo and the tests use them, so that they need no images of patients. They look like real angiograms,
but scores on them do not predict scores on real angiograms.

Lengths are fractions of the image's side; positions are (x, y). Pixels are computed in float64, so that
differences in the last bit between processors disappear when pixels are rounded.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.datasets.synthetic_vessels import (
    FOVEAL_AVASCULAR_RADIUS,
    Anatomy,
    draw_vessels,
    smooth_noise,
    vessel_tree,
)
from lib.images.outlines import filled_polygons
from lib.runtime.errors import UserError
from lib.runtime.progress import progress as progress_bar

SMALLEST_SIZE = 128
DISC_RADIUS = 0.045

Polygons = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class SyntheticAngiogram:
    """One synthetic angiogram and its truth.

    Attributes:
        image: (H, W) uint8, 0 outside the field of view.
        non_perfusion: (H, W) uint8 in {0, 1}, the union of the rasterised `polygons`.
        field_of_view: (H, W) uint8 in {0, 1}, the circular aperture.
        polygons: outlines of the non-perfused areas, each (K, 2) int64, (x, y) in pixels.
        fovea: (x, y) in pixels, the centre of the foveal avascular zone.
        occlusion: (K, 2) int64, outline of the affected region around `polygons` (label "BRVO").
    """

    image: np.ndarray
    non_perfusion: np.ndarray
    field_of_view: np.ndarray
    polygons: Polygons
    fovea: tuple[float, float]
    occlusion: np.ndarray


def synthetic_angiogram(seed: int, index: int, size: int = 512) -> SyntheticAngiogram:
    """Draw image number `index` of the set with this seed, `size` x `size` pixels; always the same pixels.

    Raises:
        ValueError: `size` is too small to distinguish vessels from capillaries.
    """
    if size < SMALLEST_SIZE:
        raise ValueError(f"size is {size}, expected at least {SMALLEST_SIZE} pixels")
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    field_of_view = _aperture(rng, size)
    anatomy = _anatomy(rng)
    trees = [vessel_tree(rng, anatomy, calibre) for calibre in (0.0010, 0.0007)]
    large, fine = draw_vessels(trees, size)
    non_perfusion = np.zeros_like(field_of_view)
    while non_perfusion.sum() < 0.008 * field_of_view.sum():
        wanted = 0.012 + 0.31 * rng.beta(1.1, 1.6)
        occlusion, affected = _affected_region(rng, anatomy, field_of_view, wanted)
        polygons = _non_perfused_polygons(rng, anatomy, affected, large, wanted * field_of_view.sum())
        non_perfusion = filled_polygons(polygons, (size, size))
    image = _expose(rng, anatomy, large, fine, affected, non_perfusion, field_of_view)
    fovea = tuple((anatomy.fovea * size).tolist())
    return SyntheticAngiogram(image, non_perfusion, field_of_view, polygons, fovea, occlusion)


def _aperture(rng: np.random.Generator, size: int) -> np.ndarray:
    """The camera's circular field of view, which touches the image border or is slightly cut by it."""
    row, column = np.mgrid[:size, :size]
    radius = size * rng.uniform(0.497, 0.507)
    centre = (size - 1) / 2
    return ((row - centre) ** 2 + (column - centre) ** 2 <= radius**2).astype(np.uint8)


def _anatomy(rng: np.random.Generator) -> Anatomy:
    temporal = int(rng.choice([-1, 1]))
    disc = np.array([0.5 - temporal * rng.uniform(0.27, 0.40), rng.uniform(0.40, 0.60)])
    fovea = disc + np.array([temporal * rng.uniform(0.29, 0.34), rng.uniform(0.01, 0.05)])
    return Anatomy(disc, fovea, temporal)


def _affected_region(
    rng: np.random.Generator, anatomy: Anatomy, field_of_view: np.ndarray, wanted: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the region of the occluded vein, a sector with wavy edges: outline (K, 2), mask (H, W)."""
    size = len(field_of_view)
    towards = np.array([anatomy.temporal, rng.choice([-1, 1])])
    apex = anatomy.disc + towards * rng.uniform(0.02, 0.08, 2)
    x, y = towards[:, None, None] * _coordinates(size, apex)
    half_angle = np.radians(rng.uniform(22, 40) + 90 * wanted)
    middle = half_angle + np.radians(rng.uniform(-8, 15))
    angle = np.arctan2(y, x) + 0.15 * smooth_noise(rng, size, 0.12)
    within = np.abs(angle - middle) < half_angle
    outline = max(_outlines(field_of_view * within, 3 * size / 512), key=cv2.contourArea)
    return outline, filled_polygons([outline], (size, size))


def _non_perfused_polygons(
    rng: np.random.Generator, anatomy: Anatomy, affected: np.ndarray, large: np.ndarray, wanted_pixels: float
) -> Polygons:
    """Outlines of clusters of cells between the larger vessels with `wanted_pixels` in total."""
    size = len(affected)
    scale = size / 512
    allowed = cv2.erode(affected, _disk(3 * scale), borderValue=0)
    allowed[cv2.dilate(large, _disk(1.5 * scale)) > 0.3] = 0
    for centre, radius in ((anatomy.fovea, 0.06), (anatomy.disc, DISC_RADIUS + 0.01)):
        allowed[np.hypot(*_coordinates(size, centre)) < radius] = 0
    x, y = _coordinates(size, anatomy.fovea)
    raphe = np.abs(y + 0.015 * smooth_noise(rng, size, 0.06)) < 0.004
    allowed[raphe & (anatomy.temporal * x > 0)] = 0  # so that no outline surrounds the fovea
    cells = _cells(rng, size, np.exp(rng.uniform(np.log(0.025), np.log(0.09))))
    area = np.bincount(cells.ravel(), allowed.ravel())
    preference = smooth_noise(rng, size, 0.16) + 0.5 * smooth_noise(rng, size, 0.05)
    preference = np.bincount(cells.ravel(), preference.ravel()) / np.bincount(cells.ravel()).clip(1)
    order = np.argsort(-np.where(area > 0, preference, -np.inf), kind="stable")
    chosen = np.zeros(len(area), bool)
    chosen[order[: 1 + np.searchsorted(np.cumsum(area[order]), wanted_pixels)]] = True
    lost = (chosen[cells] & (allowed == 1)).astype(np.uint8)
    lost = cv2.morphologyEx(lost, cv2.MORPH_OPEN, _disk(rng.uniform(2, 3.5) * scale))
    return tuple(p for p in _outlines(lost, scale) if cv2.contourArea(p) > 60 * scale**2)


def _cells(rng: np.random.Generator, size: int, spacing: float) -> np.ndarray:
    """Voronoi cells of random sites, with wavy borders: (size, size) int labels."""
    sites = np.ones((size, size), np.uint8)
    sites[tuple(rng.integers(0, size, (2, round(spacing**-2))))] = 0
    _, labels = cv2.distanceTransformWithLabels(sites, cv2.DIST_L2, 5)
    wave = [0.3 * spacing * size * smooth_noise(rng, size, 0.6 * spacing) for _ in range(2)]
    row, column = np.clip(np.rint(np.mgrid[:size, :size] + wave), 0, size - 1).astype(int)
    return labels[row, column]


def _outlines(mask: np.ndarray, tolerance: float) -> Polygons:
    """Simplified outer outlines of a mask's areas: (K, 2) int64 each, K >= 3."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = (cv2.approxPolyDP(contour, tolerance, closed=True)[:, 0] for contour in contours)
    return tuple(outline.astype(np.int64) for outline in outlines if len(outline) >= 3)


def _expose(
    rng: np.random.Generator,
    anatomy: Anatomy,
    large: np.ndarray,
    fine: np.ndarray,
    affected: np.ndarray,
    non_perfusion: np.ndarray,
    field_of_view: np.ndarray,
) -> np.ndarray:
    """Combine choroid, capillaries, lesions and vessels, and simulate the camera: (H, W) uint8."""
    size = len(field_of_view)
    scale = size / 512
    lost = _blur(non_perfusion.astype(float), 1.6 * scale)
    avascular = _foveal_avascular_zone(rng, anatomy, size)
    perfused = (1 - lost) * (1 - avascular)
    diseased = _blur(affected.astype(float), 10 * scale)
    choroid = 1 + 0.10 * smooth_noise(rng, size, 0.05) + 0.06 * smooth_noise(rng, size, 0.015)
    haze = rng.uniform(0.15, 0.55)
    capillaries = haze * (1 - 0.35 * diseased) + _capillaries(rng, size, diseased)
    retina = choroid * (1 - 0.35 * avascular) + perfused * capillaries
    retina = retina * _haemorrhages(rng, affected, non_perfusion)
    retina += _leakage(rng, anatomy, diseased) * (1 - lost)
    twigs = fine * (1 - 0.95 * cv2.dilate(lost, _disk(3 * scale)))
    vessels = np.maximum(large, twigs)
    vessel_level = rng.uniform(6, 9.5)
    retina = retina * (1 - vessels) + vessel_level * vessels**1.3
    retina += _microaneurysms(rng, affected, non_perfusion)
    light = _illumination(rng, size) * rng.uniform(30, 55)
    exposed = _blur(light * retina, rng.uniform(0.5, 0.9) * max(scale, 0.7))
    exposed += rng.normal(0, 1, (size, size)) * (rng.uniform(1.0, 2.5) + 0.035 * exposed)
    exposed = 255 * np.tanh(np.maximum(exposed, 0) / 230)  # soft saturation of the camera
    return np.rint(exposed).astype(np.uint8) * field_of_view


def _foveal_avascular_zone(rng: np.random.Generator, anatomy: Anatomy, size: int) -> np.ndarray:
    """Irregular zone without capillaries, with soft edges: (size, size) float64 in [0, 1]."""
    distance = np.hypot(*_coordinates(size, anatomy.fovea)) + 0.005 * smooth_noise(rng, size, 0.04)
    width = rng.uniform(0.004, 0.012)
    return 1 / (1 + np.exp(np.clip((distance - FOVEAL_AVASCULAR_RADIUS + width) / width, -50, 50)))


def _capillaries(rng: np.random.Generator, size: int, diseased: np.ndarray) -> np.ndarray:
    """Capillary network, with wider meshes in the diseased region: (size, size) float64, mean about 0."""
    fine, wide = (_network(rng, size, width * size / 512) for width in (1.1, 2.0))
    patchy = 1 + 0.3 * smooth_noise(rng, size, 0.04)
    contrast = rng.uniform(0.20, 0.40)
    return patchy * contrast * ((1 - diseased) * fine + diseased * (0.5 * fine + 1.2 * wide))


def _network(rng: np.random.Generator, size: int, width: float) -> np.ndarray:
    """Lines along the zero crossings of band-passed noise, standardised: (size, size) float64."""
    width = max(width, 0.7)
    noise = rng.normal(0, 1, (size, size))
    band = _blur(noise, width) - _blur(noise, 2 * width)
    lines = np.exp(-((band / (0.45 * band.std())) ** 2))
    return (lines - lines.mean()) / lines.std()


def _haemorrhages(rng: np.random.Generator, affected: np.ndarray, non_perfusion: np.ndarray) -> np.ndarray:
    """Blurred spots that block fluorescence, outside non-perfusion: factors in (0, 1]."""
    size = len(affected)
    candidates = np.flatnonzero(affected)
    spots = np.zeros((size, size))
    for centre in rng.choice(candidates, rng.integers(0, 7)):
        row, column = divmod(int(centre), size)
        axes = np.rint(size * rng.uniform(0.006, 0.028, 2)).astype(int).tolist()
        cv2.ellipse(spots, (column, row), axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.4, 0.8), -1)
    return 1 - _blur(spots, 0.007 * size) * (1 - non_perfusion)


def _leakage(rng: np.random.Generator, anatomy: Anatomy, diseased: np.ndarray) -> np.ndarray:
    """Blurred bright patches in the affected region and a glow around the disc: float64 >= 0."""
    size = len(diseased)
    patches = np.maximum(smooth_noise(rng, size, 0.07) - rng.uniform(0.9, 1.8), 0) * diseased
    x, y = _coordinates(size, anatomy.disc)
    distance = np.hypot(x, y) / DISC_RADIUS
    nasal = 0.6 + 0.4 * np.tanh(-anatomy.temporal * x / 0.02)
    rim = nasal * np.exp(-(((distance - 1) / 0.25) ** 2))
    glow = np.exp(-0.5 * (distance / 2.2) ** 2)
    return rng.uniform(0, 2.0) * patches + rng.uniform(0.2, 1.2) * rim + rng.uniform(0, 0.8) * glow


def _microaneurysms(rng: np.random.Generator, affected: np.ndarray, non_perfusion: np.ndarray) -> np.ndarray:
    """Small bright dots, most of them near the border of non-perfusion: float64 >= 0."""
    size = len(affected)
    border = cv2.dilate(non_perfusion, _disk(0.012 * size)) - non_perfusion
    dots = np.zeros((size, size))
    for region, most in ((border & affected, 70), (affected, 25)):
        number = rng.integers(0, most)
        where = rng.choice(np.flatnonzero(region), number)
        dots.flat[where] = rng.uniform(8, 35, number)
    return _blur(dots, max(0.0020 * size, 0.7))


def _illumination(rng: np.random.Generator, size: int) -> np.ndarray:
    """Vignetting, one darker side and slow variation: (size, size) float64 factors."""
    x, y = _coordinates(size, np.array([0.5, 0.5]) + rng.normal(0, 0.06, 2))
    vignetting = 1 - rng.uniform(0.6, 1.6) * (x**2 + y**2)
    angle = rng.uniform(0, 2 * np.pi)
    towards = (x * np.cos(angle) + y * np.sin(angle)) / 0.5
    dim = 1 - rng.uniform(0.3, 0.65) / (1 + np.exp(-(towards - rng.uniform(0.1, 0.6)) / 0.15))
    return np.maximum(vignetting, 0.25) * dim * np.exp(0.12 * smooth_noise(rng, size, 0.3))


def _coordinates(size: int, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position (x, y) of each pixel's centre relative to `origin`, in fractions of the side."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return x - origin[0], y - origin[1]


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _disk(radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


_drawing = partial(progress_bar, title="drawing")


def write_synthetic_angiograms(
    folder: Path,
    number: int,
    seed: int,
    size: int = 512,
    progress: Callable[[Iterable[int]], Iterable[int]] = _drawing,
) -> None:
    """Write angiograms as PNG, each with a LabelMe file of the same name ("NP" and "BRVO").

    Every fourth patient, from the third, has two images, so that a split by patient is needed.

    Args:
        folder: folder that does not exist or is empty.
        number: number of images, at least 1.
        seed: the same seed gives the same images.
        size: height and width in pixels.
        progress: wraps the indices, as `tqdm` does, and shows how many are done.

    Raises:
        UserError: `folder` is not empty, or `number` is less than 1.
    """
    if number < 1:
        raise UserError(f"{number} synthetic angiograms: expected at least 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        unfinished = Path(beside) / folder.name
        unfinished.mkdir()
        patient, eye = 0, 1
        for index in progress(range(number)):
            patient, eye = (patient, 2) if patient % 4 == 3 and eye == 1 else (patient + 1, 1)
            name = f"{patient}-{eye} _{10 + index % 25:03d}"
            angiogram = synthetic_angiogram(seed, index, size)
            Image.fromarray(angiogram.image).save(unfinished / f"{name}.png")
            truth = json.dumps(_labelme(angiogram, f"{name}.png"), indent=1)
            (unfinished / f"{name}.json").write_text(truth, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)


def _labelme(angiogram: SyntheticAngiogram, image_name: str) -> dict:
    height, width = angiogram.image.shape
    labelled = [("BRVO", angiogram.occlusion), *(("NP", p) for p in angiogram.polygons)]
    polygon: dict = {"group_id": None, "shape_type": "polygon", "flags": {}}
    shapes = [{"label": k, "points": p.astype(float).tolist(), **polygon} for k, p in labelled]
    return {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
