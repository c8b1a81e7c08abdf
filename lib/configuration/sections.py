"""The sections of `configuration.txt` as frozen dataclasses; a field is named like its key."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from lib.configuration.banner import Banner, parse_info_banner
from lib.configuration.values import (
    Folds,
    Reader,
    boolean,
    either,
    experiment_name,
    file_name,
    folds,
    number,
    one_of,
    optional,
    optional_boolean,
    path,
    paths,
    pattern,
    ratio,
    several_of,
    test_time_augmentation,
    title,
    whole_numbers,
    words,
)
from models import ARCHITECTURES


def key(read: Reader, *, absent: str | None = None, repr: bool = True) -> Any:
    """Declare a key; `absent` is its text in files that are older than the key, None if it is required.

    `repr = False` keeps a new key that changes no prediction, or that `lib.prediction.folder` adds itself,
    out of the hash of the settings, so that results of earlier versions stay valid.
    """
    return field(metadata={"read": read, "absent": absent}, repr=repr)


DEGREES = optional(number(float, least=5, most=200))
"""Reader of an angle of the field of view; the smallest of a fundus camera are 15 to 20 degrees."""


SPLIT = "split.json"
"""Name of the file with the split, in a folder of prepared images and in that of an experiment."""


FIGURE_FORMATS = ("png", "pdf", "svg")
"""Formats in which figures without an image can be written, which are also the endings of their files."""


TESTED_FOLDER = "tested_folder.txt"
"""Name of the file, in the folder of results on another data set, with the folder of that data set."""


@dataclass(frozen=True)
class DataPaths:
    """[data paths]"""

    path_images: Path = key(path)
    path_negatives: tuple[Path, ...] = key(paths, absent="")
    path_local: Path = key(path)
    path_test: Path | None = key(optional(path), absent="")
    train_imgs_original: str = key(file_name)
    train_groundTruth: str = key(file_name)
    train_border_masks: str = key(file_name)
    validation_imgs_original: str = key(file_name)
    validation_groundTruth: str = key(file_name)
    validation_border_masks: str = key(file_name)
    test_imgs_original: str = key(file_name)
    test_groundTruth: str = key(file_name)
    test_border_masks: str = key(file_name)

    @property
    def split(self) -> Path:
        """The split of the prepared images."""
        return self.path_local / SPLIT

    @property
    def tested_split(self) -> Path:
        """The split whose test part is tested."""
        return (self.path_test or self.path_local) / SPLIT

    def hdf5(self, part: str) -> tuple[Path, Path, Path]:
        """The files of images, truth and field of view of a part: train, validation or test."""
        folder = self.path_test if part == "test" and self.path_test else self.path_local
        kinds = ("imgs_original", "groundTruth", "border_masks")
        images, truth, field_of_view = (folder / getattr(self, f"{part}_{kind}") for kind in kinds)
        return images, truth, field_of_view


@dataclass(frozen=True)
class Preparation:
    """[preparation]"""

    labels: tuple[str, ...] = key(words)
    ignore_labels: tuple[str, ...] = key(words)
    auxiliary_labels: tuple[str, ...] = key(words, absent="")
    info_banner: Banner | Literal["auto"] | None = key(parse_info_banner)
    patient_pattern: re.Pattern[str] = key(pattern)
    split_ratio: tuple[float, float, float] = key(ratio)
    split_seed: int = key(number(int, least=0))
    split_file: Path | None = key(optional(path))
    fold: Folds | None = key(optional(folds), absent="")


@dataclass(frozen=True)
class ExperimentName:
    """[experiment name]"""

    name: str = key(experiment_name)
    path_experiments: Path = key(path)

    @property
    def folder(self) -> Path:
        """The folder of all files of the experiment."""
        return self.path_experiments / self.name


@dataclass(frozen=True)
class DataAttributes:
    """[data attributes]"""

    structure: str = key(title)
    patch_height: int = key(number(int, least=8))
    patch_width: int = key(number(int, least=8))


INPUT_CHANNELS = ("preprocessed", "grey", "red", "green", "blue", "local_contrast", "texture")
"""Channels of the input of a network, which `lib/images/preprocessing.py` computes."""


@dataclass(frozen=True)
class Preprocessing:
    """[preprocessing]"""

    channel: str = key(one_of("grey", "red", "green", "blue"))
    standardise: str = key(one_of("retina_unet", "none"))
    local_normalisation_sigma: float = key(number(float, least=0))
    clahe_clip_limit: float = key(number(float, least=0))
    clahe_tile_grid: int = key(number(int, least=1, most=64))
    gamma: float = key(number(float, above=0))
    gamma_exponent: str = key(one_of("inverse", "direct"))
    gamma_epsilon: float = key(number(float, least=0, most=1))
    channels: tuple[str, ...] = key(several_of(*INPUT_CHANNELS), absent="preprocessed")
    field_of_view_diameter: int = key(number(int, least=0), absent="0")


@dataclass(frozen=True)
class Augmentation:
    """[augmentation]"""

    flip_horizontal: bool = key(boolean)
    flip_vertical: bool = key(boolean)
    rotate_90: bool = key(boolean)
    gamma_jitter: float = key(number(float, least=0, most=1))
    contrast_jitter: float = key(number(float, least=0, most=1))
    rotation: float = key(number(float, least=0, most=180), absent="0")
    scale: float = key(number(float, least=0, most=1), absent="0")
    shear: float = key(number(float, least=0, most=1), absent="0")
    shift: float = key(number(float, least=0, most=0.5), absent="0")
    elastic: float = key(number(float, least=0, most=0.1), absent="0")
    moved_share: float = key(number(float, least=0, most=1), absent="1")
    illumination: float = key(number(float, least=0, most=2), absent="0")
    blur: float = key(number(float, least=0, most=20), absent="0")
    noise: float = key(number(float, least=0, most=0.5), absent="0")


@dataclass(frozen=True)
class Model:
    """[model]"""

    architecture: str = key(one_of(*ARCHITECTURES))
    filters: tuple[int, ...] = key(whole_numbers)
    reduction_ratio: int = key(number(int, least=1))
    dropout: float = key(number(float, least=0, most=0.95))
    batch_normalisation: bool | None = key(optional_boolean)
    encoder_weights: str = key(one_of("none", "imagenet"), absent="none")


Precision = Literal["float32", "mixed_bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Dtype policies of Keras."""


@dataclass(frozen=True)
class TrainingSettings:
    """[training settings]"""

    N_subimgs: int = key(number(int, least=1))
    validation: str = key(one_of("images", "patches", "none"))
    N_subimgs_validation: int = key(number(int, least=1))
    inside_FOV: bool = key(boolean)
    truth_centred_share: float = key(number(float, least=0, most=1))
    negatives_share: float | None = key(optional(number(float, least=0, most=0.99)), absent="")
    N_epochs: int = key(number(int, least=1))
    batch_size: int | Literal["auto"] = key(either("auto", number(int, least=1)))
    loss: str = key(
        one_of(
            "binary_crossentropy", "dice", "binary_crossentropy_and_dice", "binary_crossentropy_and_half_dice"
        )
    )
    loss_in_FOV: bool = key(boolean)
    optimizer: str = key(one_of("adam", "adamw", "sgd"))
    weight_decay: float = key(number(float, least=0, most=1), absent="0")
    weight_average: float = key(number(float, least=0, most=0.9999), absent="0")
    learning_rate: float = key(number(float, above=0))
    learning_rate_schedule: str = key(one_of("constant", "cosine", "cosine_cycles"))
    cycle_epochs: int = key(number(int, least=1), absent="50")
    dropout_growth_epochs: int = key(number(int, least=0), absent="0")
    rough_map_loss_weight: float = key(number(float, least=0), absent="0")
    auxiliary_loss_weight: float = key(number(float, least=0), absent="0")
    best_by: str = key(one_of("auc", "loss"))
    patience: int = key(number(int, least=1))
    seed: int = key(number(int, least=0, most=2**31 - 1))
    precision: Precision = key(one_of(*PRECISIONS))
    devices: int | Literal["all"] = key(either("all", number(int, least=1)), absent="1")
    initial_weights: Path | Literal["none"] = key(either("none", path), absent="none")
    nohup: bool = key(boolean)

    @property
    def steps(self) -> int:
        """Batches of an epoch. All have the same size, so that TensorFlow traces one shape only."""
        return -(-self.N_subimgs // self.fixed_batch_size)

    @property
    def fixed_batch_size(self) -> int:
        """The batch size as a number, after the training has replaced "auto".

        Raises:
            ValueError: it is still "auto".
        """
        if self.batch_size == "auto":
            raise ValueError("batch_size = auto has not been measured yet")
        return self.batch_size


TestTimeAugmentation = Literal["none", "mirrors", "symmetries"]


@dataclass(frozen=True)
class TestingSettings:
    """[testing settings]"""

    best_last: str = key(one_of("best", "last"))
    full_images_to_test: int | Literal["all"] = key(either("all", number(int, least=1)))
    N_group_visual: int = key(number(int, least=1))
    test_patch_height: int = key(number(int, least=8))
    test_patch_width: int = key(number(int, least=8))
    window: str = key(one_of("auto", "overlap", "side_by_side", "tiles", "whole"))
    stride_height: int = key(number(int, least=1))
    stride_width: int = key(number(int, least=1))
    test_batch_size: int | Literal["auto"] = key(either("auto", number(int, least=1)))
    tile_size: int = key(number(int, least=64), absent="512")
    tile_overlap: int = key(number(int, least=0), absent="48")
    threshold: float | Literal["validation"] = key(either("validation", number(float, least=0, most=1)))
    tta: TestTimeAugmentation = key(test_time_augmentation, absent="none")
    logit_shift: float = key(number(float, least=0, most=1), absent="0")
    precision: Precision | Literal["auto"] = key(either("auto", one_of(*PRECISIONS)), absent="float32")
    min_area_px: int | Literal["validation"] = key(either("validation", number(int, least=0)), absent="0")
    pixel_spacing_mm: float | None = key(optional(number(float, above=0)), absent="")
    training_field_of_view_degrees: float | None = key(DEGREES, absent="", repr=False)
    test_field_of_view_degrees: float | None = key(DEGREES, absent="", repr=False)
    connectivity: bool = key(boolean, absent="False")
    figure_formats: tuple[str, ...] = key(several_of(*FIGURE_FORMATS), absent="png", repr=False)
    nohup: bool = key(boolean)

    @property
    def relative_angle(self) -> float:
        """Angle of the tested field of view, as a multiple of the angle in the training; 1 if not given."""
        tested, trained = self.test_field_of_view_degrees, self.training_field_of_view_degrees
        return tested / trained if tested and trained else 1


CHANGES_NO_SCORE = ("nohup", "N_group_visual", "figure_formats", "test_batch_size")
"""Keys of a training or a test that change no score."""


@dataclass(frozen=True)
class Configuration:
    """A configuration file; `texts` keeps the text of each key, to be stored with the experiment."""

    data_paths: DataPaths
    preparation: Preparation
    experiment_name: ExperimentName
    data_attributes: DataAttributes
    preprocessing: Preprocessing
    augmentation: Augmentation
    model: Model
    training_settings: TrainingSettings
    testing_settings: TestingSettings
    texts: dict[str, dict[str, str]] = field(repr=False)

    @property
    def score_sha256(self) -> str:
        """SHA-256, in hexadecimal, of the settings on which the scores of a test depend.

        Left out are paths and names, since the project may be moved; `CHANGES_NO_SCORE`; and keys with the
        value that files without them have, since later versions have more keys.
        """
        keys = [
            f"{section}.{item.name} = {self.texts[section][item.name]}"
            for section, kind in SECTIONS.items()
            if section not in ("data paths", "experiment name")
            for item in fields(kind)
            if item.name not in CHANGES_NO_SCORE and self.texts[section][item.name] != item.metadata["absent"]
        ]
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()

    @property
    def results_folder(self) -> Path:
        """The folder that testing writes to; for another data set a folder inside the experiment's.

        It is `on_<name>`; if that folder has results of another `path_test` of the same name (in its file
        `TESTED_FOLDER`), or of one that is not known (earlier versions lack this file), a digest of the path
        follows.
        """
        if self.data_paths.path_test is None:
            return self.experiment_name.folder
        results = self.experiment_name.folder / f"on_{self.data_paths.path_test.name}"
        recorded, tested = results / TESTED_FOLDER, self.tested_folder
        if recorded.is_file():
            is_free = recorded.read_text(encoding="utf-8").strip() == tested
        else:  # the log file is the only one that a test writes before `TESTED_FOLDER`
            is_free = all(file.suffix == ".nohup" for file in results.glob("*"))
        if is_free:
            return results
        return results.with_name(f"{results.name}_{hashlib.sha256(tested.encode()).hexdigest()[:8]}")

    @property
    def tested_folder(self) -> str:
        """`path_test` (or path_local) relative to the experiment's folder, so that both can move together."""
        tested = self.data_paths.path_test or self.data_paths.path_local
        return os.path.relpath(os.path.realpath(tested), os.path.realpath(self.experiment_name.folder))

    def as_text(self) -> str:
        """Return the settings as an INI file; reading it gives the same configuration."""
        return "\n".join(
            "\n".join([f"[{section}]", *(f"{name} = {value}" for name, value in keys.items()), ""])
            for section, keys in self.texts.items()
        )


SECTIONS: dict[str, type] = {
    name.replace("_", " "): kind for name, kind in get_type_hints(Configuration).items() if name != "texts"
}
"""The dataclass of each section by its name in the file."""


def by_validation(settings: TestingSettings) -> bool:
    """Whether the threshold or the smallest area is chosen on the validation images."""
    return "validation" in (settings.threshold, settings.min_area_px)
