"""Augmentation: random changes of geometry, intensity, sharpness and noise of patches."""

from dataclasses import replace

import cv2
import numpy as np

from lib.configuration.sections import Augmentation

ELASTIC_GRID = 5
"""Points along each side of the random grid of the elastic deformation."""
ILLUMINATION_GRID = 3
"""The same for the illumination, which changes more slowly over the image."""


def augment(
    images: np.ndarray,
    aligned: np.ndarray,
    settings: Augmentation,
    generator: np.random.Generator,
    intensity_channels: np.ndarray,
    outside: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Change each patch at random; truth and field of view are moved with it.

    Flips, rotations by 90 degrees, gamma and contrast come first, so that an experiment without the other
    changes gets the same random numbers as in earlier versions. Pixels that a movement brings in from outside
    the patch get the value `outside`, and 0 in `aligned`: they are outside the field of view.

    Args:
        images: (N, H, W, C) float32 in [0, 1].
        aligned: (N, H, W, K) uint8 or float32, truth and field of view; moved only.
        settings: section [augmentation]; rotate_90 rotates patches that are not square by 180 degrees only.
        generator: the random generator.
        intensity_channels: (C,) bool, the channels that gamma, contrast and illumination change.
        outside: (C,) float32, the value of each channel outside the image.

    Returns:
        New arrays of the same shapes and dtypes.
    """
    images, aligned = images.copy(), aligned.copy()
    number, height, width, _ = images.shape
    for wanted, axis in ((settings.flip_vertical, 1), (settings.flip_horizontal, 2)):
        if wanted:
            chosen = generator.random(number) < 0.5
            images[chosen] = np.flip(images[chosen], axis)
            aligned[chosen] = np.flip(aligned[chosen], axis)
    if settings.rotate_90:
        quarters = (0, 1, 2, 3) if height == width else (0, 2)
        turns = generator.choice(quarters, number)
        for quarter in quarters[1:]:
            chosen = turns == quarter
            images[chosen] = np.rot90(images[chosen], quarter, axes=(1, 2))
            aligned[chosen] = np.rot90(aligned[chosen], quarter, axes=(1, 2))
    jittered = _with_jitter(images, settings, generator)
    images = np.where(intensity_channels, jittered, images)
    images, aligned = _moved(images, aligned, settings, generator, outside)
    if settings.illumination:
        illuminated = _illuminated(images, settings.illumination, generator)
        images = np.where(intensity_channels, illuminated, images)
    if settings.blur:
        images = _blurred(images, settings.blur, generator)
    if settings.noise:
        images = _with_noise(images, settings.noise, generator)
    return images, aligned


def _with_jitter(images: np.ndarray, settings: Augmentation, generator: np.random.Generator) -> np.ndarray:
    """Change gamma by a factor in [1 / (1 + g), 1 + g], contrast around the mean by one in [1 - c, 1 + c]."""
    each = (len(images), 1, 1, 1)
    if settings.gamma_jitter:
        span = np.log1p(settings.gamma_jitter)
        images = images ** np.exp(generator.uniform(-span, span, each)).astype(np.float32)
    if settings.contrast_jitter:
        factor = generator.uniform(-1, 1, each).astype(np.float32) * settings.contrast_jitter + 1
        mean = images.mean(axis=(1, 2), keepdims=True)
        images = np.clip((images - mean) * factor + mean, 0, 1)
    return images


def _moved(
    images: np.ndarray,
    aligned: np.ndarray,
    settings: Augmentation,
    generator: np.random.Generator,
    outside: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale, shear, shift and deform `moved_share` of the patches in one interpolation."""
    s = settings
    if not (s.rotation or s.scale or s.shear or s.shift or s.elastic):
        return images, aligned
    if s.moved_share < 1:
        chosen = generator.random(len(images)) < s.moved_share
        if chosen.any():
            moved = _moved(images[chosen], aligned[chosen], replace(s, moved_share=1), generator, outside)
            images[chosen], aligned[chosen] = moved
        return images, aligned
    columns, rows = _source_positions(images.shape[:3], settings, generator)
    if settings.elastic:
        across, down = _elastic_displacements(images.shape[:3], settings.elastic, generator)
        columns, rows = columns + across, rows + down
    maps = list(zip(columns.astype(np.float32), rows.astype(np.float32), strict=True))
    # OpenCV has border values for at most four channels.
    images = _remapped(images - outside, maps, cv2.INTER_LINEAR) + outside
    return images, _remapped(aligned, maps, cv2.INTER_NEAREST)


def _source_positions(
    shape: tuple[int, ...], settings: Augmentation, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Column and row, each (N, H, W), from which an affine map takes each pixel of its result.

    The map shears, rotates and scales around the centre of the patch, then shifts.
    """
    number, height, width = shape
    s = settings
    largest = (np.radians(s.rotation), s.scale, s.shear, s.shift * width, s.shift * height)
    drawn = generator.uniform(-1, 1, (number, len(largest))) * largest
    angle, log_scale, shear, across, down = drawn.T[..., None, None]
    cosine, sine = np.cos(angle) / np.exp(log_scale), np.sin(angle) / np.exp(log_scale)
    x = np.arange(width) - (width - 1) / 2 - across
    y = np.arange(height)[:, None] - (height - 1) / 2 - down
    rotated_back, rows = cosine * x + sine * y, cosine * y - sine * x
    return rotated_back - shear * rows + (width - 1) / 2, rows + (height - 1) / 2


def _elastic_displacements(
    shape: tuple[int, ...], deviation: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random displacements of columns and rows, each (N, H, W), in pixels.

    `deviation` is the standard deviation at the points of the grid, as a share of the side. (Random grids
    that are enlarged by cubic interpolation: Ronneberger et al., U-Net, 2015.)
    """
    number, height, width = shape
    grids = generator.standard_normal((2, number, ELASTIC_GRID, ELASTIC_GRID)) * deviation
    across, down = (np.stack([_enlarged(grid, height, width) for grid in both]) for both in grids)
    return across * width, down * height


def _enlarged(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _remapped(
    arrays: np.ndarray, maps: list[tuple[np.ndarray, np.ndarray]], interpolation: int
) -> np.ndarray:
    """Take each pixel of `arrays` (N, H, W, C) from the position that `maps` names; 0 outside."""
    return np.stack(
        [
            cv2.remap(array, *one, interpolation, borderMode=cv2.BORDER_CONSTANT).reshape(array.shape)
            for array, one in zip(arrays, maps, strict=True)
        ]
    )


def _illuminated(images: np.ndarray, amplitude: float, generator: np.random.Generator) -> np.ndarray:
    """Multiply each patch by a smooth field between exp(-amplitude) and exp(amplitude)."""
    number, height, width, _ = images.shape
    grids = generator.uniform(-amplitude, amplitude, (number, ILLUMINATION_GRID, ILLUMINATION_GRID))
    logs = np.stack([_enlarged(grid, height, width) for grid in grids])
    logs = np.clip(logs, -amplitude, amplitude)  # cubic interpolation exceeds the values of the grid
    return np.clip(images * np.exp(logs).astype(np.float32)[..., None], 0, 1)


def _blurred(images: np.ndarray, largest: float, generator: np.random.Generator) -> np.ndarray:
    """Blur half of the patches by a Gaussian filter with a random standard deviation in (0, largest]."""
    chosen = generator.random(len(images)) < 0.5
    sigmas = (1 - generator.random(len(images))) * largest
    images = images.copy()
    for index in np.flatnonzero(chosen):
        blurred = cv2.GaussianBlur(images[index], (0, 0), sigmas[index])
        images[index] = blurred.reshape(images[index].shape)
    return images


def _with_noise(images: np.ndarray, largest: float, generator: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise whose standard deviation is random in [0, largest) in each patch."""
    deviations = generator.uniform(0, largest, (len(images), 1, 1, 1)).astype(np.float32)
    noise = generator.standard_normal(images.shape, np.float32)
    return np.clip(images + noise * deviations, 0, 1)
