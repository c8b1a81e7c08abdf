"""A trained network with all that is needed to use it, whatever computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.configuration.sections import Preprocessing, TestingSettings


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, how its images are made, and how its probabilities become a mask.

    Attributes:
        name: of the experiment.
        architecture: as in section [model].
        structure: what it outlines, for titles, e.g. "CNP".
        label: LabelMe's label for it, e.g. "NP".
        info_banner: as in section [preparation].
        preprocessing: as in training.
        testing_settings: how patches are laid, pixel spacing.
        threshold: a probability of at least this is positive.
        threshold_source: where it comes from.
        min_area_px: areas of fewer pixels are dropped.
        weights_sha256: of the weight file.
        predict: (N, h, w, 1) float32 in [0, 1] to probabilities of the same shape.
    """

    name: str
    architecture: str
    structure: str
    label: str
    info_banner: Any
    preprocessing: Preprocessing
    testing_settings: TestingSettings
    threshold: float
    threshold_source: str
    min_area_px: int
    weights_sha256: str
    predict: Callable[[np.ndarray], np.ndarray]
