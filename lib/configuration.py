"""`configuration.txt`: read once, checked whole, handed on as frozen dataclasses.

Sections and keys are those of orobix/retina-unet where it has them; a field below is named like its key.
"""

import configparser
import dataclasses
import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.configuration_values import (
    Reader,
    boolean,
    either,
    experiment_name,
    file_name,
    number,
    one_of,
    optional_boolean,
    optional_fold,
    optional_number,
    optional_path,
    path,
    pattern,
    ratio,
    title,
    whole_numbers,
    words,
)
from lib.info_banner import parse_info_banner
from lib.user_errors import UserError, raise_all
from models import ARCHITECTURES

MAX_BYTES, MAX_LINE = 2**16, 2**12
"""Of a configuration file, and characters of one of its lines: far more than any has."""


def key(read: Reader, *, absent: str | None = None) -> Any:
    """A configuration key that `read` turns from text into its value.

    Files written before there was such a key read as if they said `absent`.
    """
    return field(metadata={"read": read, "absent": absent})


@dataclass(frozen=True)
class DataPaths:
    """[data paths]"""

    path_images: Path = key(path)
    path_local: Path = key(path)
    path_test: Path | None = key(optional_path, absent="")
    train_imgs_original: str = key(file_name)
    train_groundTruth: str = key(file_name)
    train_border_masks: str = key(file_name)
    validation_imgs_original: str = key(file_name)
    validation_groundTruth: str = key(file_name)
    validation_border_masks: str = key(file_name)
    test_imgs_original: str = key(file_name)
    test_groundTruth: str = key(file_name)
    test_border_masks: str = key(file_name)

    def hdf5(self, part: str) -> tuple[Path, Path, Path]:
        """Images, truth and FOV file of `part` (train, validation or test)."""
        folder = self.path_test if part == "test" and self.path_test else self.path_local
        return tuple(
            folder / getattr(self, f"{part}_{kind}")
            for kind in ("imgs_original", "groundTruth", "border_masks")
        )


@dataclass(frozen=True)
class Preparation:
    """[preparation]"""

    labels: tuple[str, ...] = key(words)
    ignore_labels: tuple[str, ...] = key(words)
    info_banner: Any = key(parse_info_banner)
    patient_pattern: re.Pattern[str] = key(pattern)
    split_ratio: tuple[float, float, float] = key(ratio)
    split_seed: int = key(number(int, least=0))
    split_file: Path | None = key(optional_path)
    fold: tuple[int, int] | None = key(optional_fold, absent="")


@dataclass(frozen=True)
class ExperimentName:
    """[experiment name]"""

    name: str = key(experiment_name)
    path_experiments: Path = key(path)

    @property
    def folder(self) -> Path:
        """Where everything that the experiment leaves behind lies."""
        return self.path_experiments / self.name


@dataclass(frozen=True)
class DataAttributes:
    """[data attributes]"""

    structure: str = key(title)
    patch_height: int = key(number(int, least=8))
    patch_width: int = key(number(int, least=8))


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


@dataclass(frozen=True)
class Augmentation:
    """[augmentation]"""

    flip_horizontal: bool = key(boolean)
    flip_vertical: bool = key(boolean)
    rotate_90: bool = key(boolean)
    gamma_jitter: float = key(number(float, least=0, most=1))
    contrast_jitter: float = key(number(float, least=0, most=1))


@dataclass(frozen=True)
class Model:
    """[model]"""

    architecture: str = key(one_of(*ARCHITECTURES))
    filters: tuple[int, ...] = key(whole_numbers)
    reduction_ratio: int = key(number(int, least=1))
    dropout: float = key(number(float, least=0, most=0.95))
    batch_normalisation: bool | None = key(optional_boolean)


@dataclass(frozen=True)
class TrainingSettings:
    """[training settings]"""

    N_subimgs: int = key(number(int, least=1))
    validation: str = key(one_of("images", "patches"))
    N_subimgs_validation: int = key(number(int, least=1))
    inside_FOV: bool = key(boolean)
    truth_centred_share: float = key(number(float, least=0, most=1))
    N_epochs: int = key(number(int, least=1))
    batch_size: int | str = key(either("auto", number(int, least=1)))
    loss: str = key(one_of("binary_crossentropy", "dice", "binary_crossentropy_and_dice"))
    loss_in_FOV: bool = key(boolean)
    optimizer: str = key(one_of("adam", "sgd"))
    learning_rate: float = key(number(float, above=0))
    learning_rate_schedule: str = key(one_of("constant", "cosine"))
    dropout_growth_epochs: int = key(number(int, least=0), absent="0")
    rough_map_loss_weight: float = key(number(float, least=0), absent="0")
    best_by: str = key(one_of("auc", "loss"))
    patience: int = key(number(int, least=1))
    seed: int = key(number(int, least=0, most=2**31 - 1))
    precision: str = key(one_of("float32", "mixed_bfloat16"))
    devices: int | str = key(either("all", number(int, least=1)), absent="1")
    initial_weights: Path | str = key(either("none", path), absent="none")
    nohup: bool = key(boolean)

    @property
    def steps(self) -> int:
        """Batches an epoch, all of one size, so that nothing is traced or compiled twice."""
        return -(-self.N_subimgs // self.batch_size)


@dataclass(frozen=True)
class TestingSettings:
    """[testing settings]"""

    best_last: str = key(one_of("best", "last"))
    full_images_to_test: int | str = key(either("all", number(int, least=1)))
    N_group_visual: int = key(number(int, least=1))
    test_patch_height: int = key(number(int, least=8))
    test_patch_width: int = key(number(int, least=8))
    window: str = key(one_of("overlap", "side_by_side", "tiles", "whole"))
    stride_height: int = key(number(int, least=1))
    stride_width: int = key(number(int, least=1))
    test_batch_size: int | str = key(either("auto", number(int, least=1)))
    tile_size: int = key(number(int, least=64), absent="512")
    tile_overlap: int = key(number(int, least=0), absent="48")
    threshold: float | str = key(either("validation", number(float, least=0, most=1)))
    tta: bool = key(boolean, absent="False")
    precision: str = key(one_of("float32", "mixed_bfloat16", "auto"), absent="float32")
    min_area_px: int | str = key(either("validation", number(int, least=0)), absent="0")
    pixel_spacing_mm: float | None = key(optional_number(above=0), absent="")
    connectivity: bool = key(boolean, absent="False")
    nohup: bool = key(boolean)


SECTIONS: dict[str, type] = {
    "data paths": DataPaths,
    "preparation": Preparation,
    "experiment name": ExperimentName,
    "data attributes": DataAttributes,
    "preprocessing": Preprocessing,
    "augmentation": Augmentation,
    "model": Model,
    "training settings": TrainingSettings,
    "testing settings": TestingSettings,
}


@dataclass(frozen=True)
class Configuration:
    """A whole configuration file; `texts` keeps what was written, to be stored with the experiment."""

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
    def results_folder(self) -> Path:
        """Where testing writes: the experiment's folder, for another set's images one within it."""
        folder, other = self.experiment_name.folder, self.data_paths.path_test
        return folder / f"on_{other.name}" if other else folder

    def as_text(self) -> str:
        """The settings as an INI file that reads back to the same configuration."""
        return "\n".join(
            "\n".join([f"[{section}]", *(f"{name} = {value}" for name, value in keys.items()), ""])
            for section, keys in self.texts.items()
        )


def read_configuration(file: Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read and check `file`, with `overrides` of the form "section.key=value" laid over it.

    Raises:
        UserError: the file cannot be read, or names every unknown, missing or impossible setting,
            one line each.
    """
    texts, origins = _read_texts(file)
    origins |= dict.fromkeys(lay_over(texts, overrides, file), f"--set over {file}")
    _fill_in(texts)
    faults = _unknown_names(texts, file)
    faults += [
        f"{file}: section [{section}] is missing" for section in _missing(list(SECTIONS), texts)
    ]
    sections = {
        section.replace(" ", "_"): _read_section(
            section, kind, texts.get(section), file, faults, origins
        )
        for section, kind in SECTIONS.items()
    }
    if not faults:
        faults += _contradictions(sections, file)
    if len(faults) == 1:
        raise UserError(faults[0])
    raise_all(faults, f"{file} has faults")
    ordered = {
        # A value that goes on in a second line is kept in one.
        section: {
            f.name: " ".join(texts[section][f.name].splitlines()).strip()
            for f in dataclasses.fields(kind)
        }
        for section, kind in SECTIONS.items()
    }
    return Configuration(**sections, texts=ordered)


def experiment_named(file: Path, overrides: Sequence[str], name: str | None) -> ExperimentName:
    """Name and folder of an experiment of that name, or of the configuration's own.

    Raises:
        UserError: as `read_configuration`; the name is a path.
    """
    chosen = [] if name is None else [f"experiment name.name={name}"]
    return read_configuration(file, [*overrides, *chosen]).experiment_name


def _read_texts(
    file: Path, seen: tuple[str, ...] = ()
) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], Path]]:
    """Sections and keys of the file over those of the file that its section [base] names.

    Returns:
        The texts, and for each section and key the file that it comes from.
    """
    texts = _parsed(file)
    base = texts.pop("base", None)
    origins = {(section, name): file for section, keys in texts.items() for name in keys}
    if base is None:
        return texts, origins
    if set(base) != {"configuration"}:
        raise UserError(
            f"{file}: [base] holds {', '.join(base) or 'nothing'}: expected the one key "
            "'configuration', a file whose settings hold wherever this one is silent"
        )
    under = file.parent / base["configuration"]
    if not os.path.isfile(under):  # noqa: PTH113, which raises on no name
        raise UserError(
            f"{file}: [base] configuration = {base['configuration']}: no such file {under}"
        )
    if os.path.realpath(under) in seen or len(seen) > 8:
        raise UserError(
            f"{file}: [base] configuration = {under}: the files name each other in turn"
        )
    merged, merged_origins = _read_texts(under, (*seen, os.path.realpath(file)))
    for section, keys in texts.items():
        merged.setdefault(section, {}).update(keys)
    return merged, merged_origins | origins


def read_section(section: str, texts: dict[str, str], source: str) -> Any:
    """One section, e.g. `Preprocessing`, from the texts of its keys as `Configuration.texts` has them.

    Raises:
        UserError: names every unknown, missing or impossible setting, and `source`.
    """
    texts = {section: dict(texts)}
    _fill_in(texts)
    faults = _unknown_names(texts, source)
    origins = {(section, name): source for name in texts[section]}
    read = _read_section(section, SECTIONS[section], texts[section], source, faults, origins)
    raise_all(faults, f"{source} has faults")
    return read


def ini_text(file: Path) -> str:
    """The text of an INI file, small enough to be parsed at once whatever it says.

    Raises:
        UserError: too large, or no text in UTF-8.
        FileNotFoundError: there is no such file.
    """
    try:
        size = file.stat().st_size
        text = file.read_text(encoding="utf-8-sig") if size <= MAX_BYTES else ""
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    # configparser's time grows with the square of a line's length.
    if size > MAX_BYTES or max(map(len, text.split("\n"))) > MAX_LINE:
        raise UserError(
            f"{file}: expected a configuration of at most {MAX_BYTES} bytes, {MAX_LINE} a line"
        )
    return text


def _parsed(file: Path) -> dict[str, dict[str, str]]:
    # No interpolation: '%' is a character of paths. Keys keep their case, as N_subimgs has one.
    parser = configparser.ConfigParser(interpolation=None, default_section="\0")
    parser.optionxform = str
    try:
        parser.read_string(ini_text(file), source=str(file))
    except FileNotFoundError:
        raise UserError(f"{file}: no such configuration file; name one with --config") from None
    except configparser.Error as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from None
    return {
        section: dict(_renamed(section, name, value) for name, value in parser[section].items())
        for section in parser.sections()
    }


def _renamed(section: str, name: str, value: str) -> tuple[str, str]:
    """retina-unet's `average_mode` under its present name."""
    windows = {"true": "overlap", "false": "side_by_side"}
    if (section, name) == ("testing settings", "average_mode") and value.lower() in windows:
        return "window", windows[value.lower()]
    return name, value


def _fill_in(texts: dict[str, dict[str, str]]) -> None:
    """What keys mean that a file written before them does not have."""
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            if section in texts and item.metadata["absent"] is not None:
                texts[section].setdefault(item.name, item.metadata["absent"])


def lay_over(
    texts: dict[str, dict[str, str]], overrides: Sequence[str], file: Path
) -> set[tuple[str, str]]:
    """Change `texts` by overrides of the form "section.key=value".

    Returns:
        Section and key of what was changed.

    Raises:
        UserError: not of that form, or no such key; names `file`.
    """
    changed = set()
    for override in overrides:
        target, equals, value = override.partition("=")
        section, dot, name = target.strip().rpartition(".")
        name, value = _renamed(section, name, value.strip())
        if not (equals and dot):
            raise UserError(
                f'--set "{override}": expected "section.key=value", e.g. '
                '--set "training settings.N_epochs=10"'
            )
        if section not in SECTIONS or name not in _key_names(section):
            where = f'--set "{override}" over {file}'
            raise UserError(_unknown(where, section, None if section not in SECTIONS else name))
        texts.setdefault(section, {})[name] = value
        changed.add((section, name))
    return changed


def _key_names(section: str) -> list[str]:
    return [f.name for f in dataclasses.fields(SECTIONS[section])]


def _nearest(asked: str, known: Sequence[str]) -> str | None:
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(asked.lower(), lowered, n=1)
    return lowered[near[0]] if near else None


def _missing(known: Sequence[str], found: Iterable[str]) -> list[str]:
    """Known names that are not found, but for misspelt ones: those are unknown, and named already."""
    misspelt = {_nearest(name, known) for name in found if name not in known}
    return [name for name in known if name not in found and name not in misspelt]


def _unknown(where: str, section: str, name: str | None) -> str:
    known = list(SECTIONS) if name is None else _key_names(section)
    near = _nearest(section if name is None else name, known)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
    kind = f"unknown section [{section}]" if name is None else f"[{section}] unknown key '{name}'"
    return f"{where}: {kind}; {hint}"


def _unknown_names(texts: dict[str, dict[str, str]], file: Path | str) -> list[str]:
    faults = []
    for section, keys in texts.items():
        if section not in SECTIONS:
            faults.append(_unknown(str(file), section, None))
            continue
        known = _key_names(section)
        faults += [_unknown(str(file), section, name) for name in keys if name not in known]
    return faults


def _read_section(
    section: str,
    kind: type,
    texts: dict[str, str] | None,
    file: Path | str,
    faults: list[str],
    origins: dict[tuple[str, str], Path | str],
) -> Any:
    """The section as its dataclass; None, and a line in `faults` for each, where there are any."""
    if texts is None:  # named already
        return None
    faults += [
        f"{file}: [{section}] key '{name}' is missing"
        for name in _missing(_key_names(section), texts)
    ]
    values = {}
    for item in dataclasses.fields(kind):
        if item.name not in texts:
            continue
        try:
            values[item.name] = item.metadata["read"](texts[item.name].strip())
        except (ValueError, OverflowError, RuntimeError) as error:
            where = origins[section, item.name]
            faults.append(
                f"{where}: [{section}] {item.name} = {texts[item.name]!r}: expected {error}"
            )
    return kind(**values) if len(values) == len(dataclasses.fields(kind)) else None


def _contradictions(sections: dict[str, Any], file: Path) -> list[str]:
    """Settings that are each possible, but not together."""
    faults = []
    testing: TestingSettings = sections["testing_settings"]
    for side in ("height", "width"):
        stride, patch = (getattr(testing, f"{name}_{side}") for name in ("stride", "test_patch"))
        if stride > patch:
            faults.append(
                f"{file}: [testing settings] stride_{side} = {stride}: expected at most "
                f"test_patch_{side} = {patch}, or pixels would be left out"
            )
    if testing.tile_overlap >= testing.tile_size:
        faults.append(
            f"{file}: [testing settings] tile_overlap = {testing.tile_overlap}: expected less than "
            f"tile_size = {testing.tile_size}"
        )
    training: TrainingSettings = sections["training_settings"]
    if training.batch_size == "auto" and training.devices != 1:
        faults.append(
            f"{file}: [training settings] batch_size = auto measures one device: expected a number, since "
            f"devices = {training.devices}"
        )
    by_validation = {"validation"} & {testing.threshold, testing.min_area_px}
    if by_validation and sections["training_settings"].validation == "patches":
        faults.append(
            f"{file}: [testing settings] threshold or min_area_px = 'validation': expected a number, "
            "since [training settings] validation = 'patches' lets the validation images train"
        )
    preparation: Preparation = sections["preparation"]
    if both := set(preparation.labels) & set(preparation.ignore_labels):
        faults.append(
            f"{file}: [preparation] labels and ignore_labels both hold {', '.join(sorted(both))}"
        )
    if not preparation.labels:
        faults.append(f"{file}: [preparation] labels is empty: expected at least one, e.g. NP")
    paths: DataPaths = sections["data_paths"]
    if os.path.realpath(paths.path_local) == os.path.realpath(paths.path_images):
        faults.append(
            f"{file}: [data paths] path_local and path_images are both {paths.path_images}: expected "
            "two folders, so that nothing is written among the images"
        )
    names = [getattr(paths, f.name) for f in dataclasses.fields(paths) if f.type is str]
    for name in sorted({n for n in names if names.count(n) > 1}):
        faults.append(f"{file}: [data paths] names {name} twice: expected nine different files")
    return faults
