"""Augmentation: random flips, rotations by 90 degrees, changes of gamma and contrast of patches."""

import numpy as np

from lib.configuration.sections import Augmentation


def augment(
    images: np.ndarray,
    aligned: np.ndarray,
    settings: Augmentation,
    generator: np.random.Generator,
    intensity_channels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Change each patch at random; truth and field of view are flipped and rotated with it.

    Args:
        images: (N, H, W, C) float32 in [0, 1].
        aligned: (N, H, W, K), truth and field of view; flipped and rotated only.
        settings: section [augmentation]; patches that are not square are rotated by 180 degrees only.
        generator: the random generator.
        intensity_channels: (C,) bool, the channels whose gamma and contrast change.

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
    images[..., intensity_channels] = _with_jitter(images[..., intensity_channels], settings, generator)
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
