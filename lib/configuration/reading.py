"""Reads and checks a configuration file; the result is frozen dataclasses.

Sections and keys have the names of orobix/retina-unet where it has them.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib.configuration.consistency import contradictions
from lib.configuration.ini_file import current_name, read_texts
from lib.configuration.sections import SECTIONS, Configuration
from lib.runtime.errors import UserError, raise_all


def read_configuration(file: Path, overrides: Sequence[str] = (), given_by: str = "--set") -> Configuration:
    """Read and check a configuration file.

    Args:
        file: the file.
        overrides: settings "section.key=value" that replace its own.
        given_by: where the overrides come from, for messages.

    Raises:
        UserError: the file cannot be read, or settings are unknown, missing or impossible: one line for each.
    """
    texts, origins = completed_texts(file, overrides, given_by)
    faults = _unknown_names(texts, file)
    faults += [f"{file}: section [{section}] is missing" for section in _missing(list(SECTIONS), texts)]
    sections = {
        section.replace(" ", "_"): _read_section(section, texts[section], file, faults, origins)
        for section in SECTIONS
        if section in texts
    }
    _raise_faults(faults, file)
    ordered = {  # a value of several lines is stored as one line
        section: {name: " ".join(texts[section][name].splitlines()).strip() for name in _key_names(section)}
        for section in SECTIONS
    }
    configuration = Configuration(**sections, texts=ordered)
    _raise_faults(contradictions(configuration, file), file)
    return configuration


def completed_texts(
    file: Path, overrides: Sequence[str], given_by: str = "--set"
) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], str]]:
    """The texts of `read_configuration` before they are checked, and where each (section, key) comes from."""
    texts, origins = read_texts(file)
    origins |= dict.fromkeys(apply_overrides(texts, overrides, file, given_by), f"{given_by} over {file}")
    _fill_in(texts)
    return texts, origins


def _raise_faults(faults: list[str], file: Path) -> None:
    if len(faults) == 1:
        raise UserError(faults[0])  # it names the file
    raise_all(faults, f"{file} has faults")


def read_section(section: str, texts: dict[str, str], source: str) -> Any:
    """Read one section, e.g. `Preprocessing`, from the texts of its keys as in `Configuration.texts`.

    Raises:
        UserError: settings are unknown, missing or impossible: one line for each, which names `source`.
    """
    completed = {section: dict(texts)}
    _fill_in(completed)
    faults = _unknown_names(completed, source)
    origins = {(section, name): source for name in completed[section]}
    read = _read_section(section, completed[section], source, faults, origins)
    raise_all(faults, f"{source} has faults")
    return read


def _fill_in(texts: dict[str, dict[str, str]]) -> None:
    """Add the keys that a file lacks because it is older than they are."""
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            if section in texts and item.metadata["absent"] is not None:
                texts[section].setdefault(item.name, item.metadata["absent"])


def apply_overrides(
    texts: dict[str, dict[str, str]], overrides: Sequence[str], file: Path, given_by: str = "--set"
) -> set[tuple[str, str]]:
    """Change `texts` by overrides of the form "section.key=value".

    Returns:
        Section and key of each changed setting.

    Raises:
        UserError: an override has another form, or names an unknown key.
    """
    changed = set()
    for override in overrides:
        target, equals, value = override.partition("=")
        section, dot, name = target.strip().rpartition(".")
        name, value = current_name(section, name, value.strip())
        if not (equals and dot):
            raise UserError(
                f'{given_by} "{override}": expected "section.key=value", e.g. "training settings.N_epochs=10"'
            )
        if section not in SECTIONS or name not in _key_names(section):
            where = f'{given_by} "{override}" over {file}'
            raise UserError(_unknown(where, section, None if section not in SECTIONS else name))
        texts.setdefault(section, {})[name] = value
        changed.add((section, name))
    return changed


def _key_names(section: str) -> list[str]:
    return [f.name for f in dataclasses.fields(SECTIONS[section])]


def _nearest(name: str, known: Sequence[str]) -> str | None:
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return lowered[near[0]] if near else None


def _missing(known: Sequence[str], found: Iterable[str]) -> list[str]:
    """Known names that are not found; without misspelt names, which are reported as unknown."""
    misspelt = {_nearest(name, known) for name in found if name not in known}
    return [name for name in known if name not in found and name not in misspelt]


def _unknown(where: Path | str, section: str, name: str | None) -> str:
    known = list(SECTIONS) if name is None else _key_names(section)
    near = _nearest(section if name is None else name, known)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
    kind = f"unknown section [{section}]" if name is None else f"[{section}] unknown key '{name}'"
    return f"{where}: {kind}; {hint}"


def _unknown_names(texts: dict[str, dict[str, str]], file: Path | str) -> list[str]:
    faults = []
    for section, keys in texts.items():
        if section not in SECTIONS:
            faults.append(_unknown(file, section, None))
        else:
            faults += [_unknown(file, section, name) for name in keys if name not in _key_names(section)]
    return faults


def _read_section(
    section: str,
    texts: dict[str, str],
    file: Path | str,
    faults: list[str],
    origins: dict[tuple[str, str], str],
) -> Any:
    """Read a section as its dataclass; return None and append a line to `faults` for each fault."""
    keys = dataclasses.fields(SECTIONS[section])
    missing = _missing(_key_names(section), texts)
    faults += [f"{file}: [{section}] key '{name}' is missing" for name in missing]
    values = {}
    for item in keys:
        if item.name not in texts:
            continue
        try:
            values[item.name] = item.metadata["read"](texts[item.name].strip())
        except (ValueError, OverflowError, RuntimeError) as error:
            where = origins[section, item.name]
            faults.append(f"{where}: [{section}] {item.name} = {texts[item.name]!r}: expected {error}")
    return SECTIONS[section](**values) if len(values) == len(keys) else None
