"""A trained network and all settings that are needed to use it, whatever library computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.sections import Preprocessing, TestingSettings
from lib.runtime.errors import UserError

NON_PERFUSION = frozenset({"cnp", "np", "nonperfusion", "non-perfusion", "capillary non-perfusion"})
"""Names of capillary non-perfusion, in lower case, as [data attributes] structure and as a label."""

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (N, h, w, C) float32 in [0, 1] to probabilities (N, h, w, M) of the M members of an ensemble, or of
one network or the mean in an ONNX file (M = 1)."""


@dataclass(frozen=True)
class TrainingImages:
    """What the images of a training had in common; networks are less reliable on other images.

    Attributes:
        smallest_diameter: diameter of the smallest field of view, in pixels of the stored image.
        largest_diameter: diameter of the largest.
        colour: whether some of them were in colour (`lib.images.preprocessing.is_in_colour`).
    """

    smallest_diameter: int
    largest_diameter: int
    colour: bool


def joined(several: Sequence[TrainingImages | None]) -> TrainingImages | None:
    """The description of the images of several trainings together; None if one of them is not known."""
    known = [images for images in several if images]
    if len(known) < len(several):
        return None
    return TrainingImages(
        min(images.smallest_diameter for images in known),
        max(images.largest_diameter for images in known),
        any(images.colour for images in known),
    )


def is_non_perfusion(structure: str) -> bool:
    """Whether a network of this [data attributes] structure outlines capillary non-perfusion."""
    return structure.lower() in NON_PERFUSION


def refuse_other_structure(expected: str, outlined: str, network: Path | str) -> None:
    """Refuse a network that outlines another structure than that of the data set.

    Raises:
        UserError: names the network and both structures.
    """
    both_non_perfusion = is_non_perfusion(expected) and is_non_perfusion(outlined)
    if expected.lower() != outlined.lower() and not both_non_perfusion:
        raise UserError(
            f"{network}: outlines {outlined}, but [data attributes] structure = {expected}; expected "
            "a network of the structure of the data set"
        )


def label_of(structure: str, label: str) -> str:
    """The LabelMe label of what a network outlines: `label`, the first of [preparation] labels.

    Data sets of other structures (vessels) are prepared without labels, and the default labels are those of
    non-perfusion. Then the structure itself is the label.
    """
    return label if is_non_perfusion(structure) or not is_non_perfusion(label) else structure


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
        training_images: scale and colour of the training images; None for networks of earlier versions.
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
    training_images: TrainingImages | None = None

    @property
    def share_column(self) -> str:
        """Name of the column with the share of the field of view that is outlined."""
        return share_column(self.structure)


def share_column(structure: str) -> str:
    """`ischaemic_index` for capillary non-perfusion, `area_fraction` for any other structure."""
    return "ischaemic_index" if is_non_perfusion(structure) else "area_fraction"
