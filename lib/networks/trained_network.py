"""A trained network and all settings that are needed to use it, whatever library computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.sections import Preprocessing, TestingSettings

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (N, h, w, C) float32 in [0, 1] to probabilities (N, h, w, 1)."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, the settings that prepare its images, and those that turn its probabilities into a mask.

    Attributes:
        name: name of the experiment.
        architecture: name of the architecture, as in section [model].
        structure: the structure that it segments, for titles, e.g. "CNP".
        label: the label of LabelMe for the structure, e.g. "NP".
        info_banner: the strip to cut off, as in section [preparation].
        preprocessing: the preprocessing of the training.
        testing_settings: settings of the sliding window, pixel spacing.
        threshold: a pixel with at least this probability is positive.
        threshold_source: how the threshold was chosen.
        min_area_px: areas with fewer pixels are removed.
        weights_sha256: SHA-256 of the weight file.
        predict: computes the probabilities.
        seen_images_sha256: SHA-256 of the images that the training has used, of files and of pixels. It has
            no names, which could be confidential. Empty if they are not known.
    """

    name: str
    architecture: str
    structure: str
    label: str
    info_banner: Banner | Literal["auto"] | None
    preprocessing: Preprocessing
    testing_settings: TestingSettings
    threshold: float
    threshold_source: str
    min_area_px: int
    weights_sha256: str
    predict: Predict
    seen_images_sha256: frozenset[str] = frozenset()
