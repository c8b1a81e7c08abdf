"""`configuration.txt`: read once, checked whole, handed on as frozen dataclasses.

Sections and keys are those of orobix/retina-unet where it has them.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.configuration.consistency import contradictions
from lib.configuration.ini_file import current_name, read_texts
from lib.configuration.sections import (
    SECTIONS,
    Augmentation,
    DataAttributes,
    DataPaths,
    ExperimentName,
    Model,
    Preparation,
    Preprocessing,
    TestingSettings,
    TrainingSettings,
)
from lib.runtime.errors import UserError, raise_all


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
    texts, origins = read_texts(file)
    origins |= dict.fromkeys(apply_overrides(texts, overrides, file), f"--set over {file}")
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
        faults += contradictions(sections, file)
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


def _fill_in(texts: dict[str, dict[str, str]]) -> None:
    """What keys mean that a file written before them does not have."""
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            if section in texts and item.metadata["absent"] is not None:
                texts[section].setdefault(item.name, item.metadata["absent"])


def apply_overrides(
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
        name, value = current_name(section, name, value.strip())
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
