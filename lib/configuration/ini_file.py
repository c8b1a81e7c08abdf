"""Configuration files as texts of sections and keys; section [base] names a file with the other keys."""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import Any

from lib.runtime.errors import UserError

MAX_BYTES, MAX_LINE = 2**16, 2**12
"""Limits of a configuration file: its bytes, and the characters of one line."""


def read_texts(
    file: Path, seen: tuple[str, ...] = ()
) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], str]]:
    """Read the sections and keys of a file, and those of its base that the file does not hold.

    `seen` are the files that have led to this one, to find a loop.

    Returns:
        The texts by section and key, and the file that each (section, key) comes from.

    Raises:
        UserError: a file cannot be read, or [base] is wrong.
    """
    found = ini_sections(file, "no such configuration file; name one with --config")
    texts = {
        section: dict(current_name(section, name, value) for name, value in keys.items())
        for section, keys in found.items()
    }
    base = texts.pop("base", None)
    origins = {(section, name): str(file) for section, keys in texts.items() for name in keys}
    if base is None:
        return texts, origins
    if set(base) != {"configuration"}:
        raise UserError(
            f"{file}: [base] holds {', '.join(base) or 'nothing'}: expected the one key "
            "'configuration', a file whose settings hold for each key that this file does not have"
        )
    under = file.parent / base["configuration"]
    if not os.path.isfile(under):  # noqa: PTH113 (Path.is_file raises for a name with a NUL)
        raise UserError(f"{file}: [base] configuration = {base['configuration']}: no such file {under}")
    if os.path.realpath(under) in seen or len(seen) > 8:
        raise UserError(f"{file}: [base] configuration = {under}: the files name each other in turn")
    merged, merged_origins = read_texts(under, (*seen, os.path.realpath(file)))
    for section, keys in texts.items():
        merged.setdefault(section, {}).update(keys)
    return merged, merged_origins | origins


def ini_sections(file: Path, missing: str, **options: Any) -> dict[str, dict[str, str]]:
    """Read the sections and keys of an INI file; keys keep capital letters, e.g. N_subimgs.

    `options` are those of `configparser.ConfigParser`.

    Raises:
        UserError: with the message `missing` if the file does not exist; or the file is too large, not
            UTF-8 text, or not an INI file.
    """
    # No interpolation: paths may contain '%'.
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", **options)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(_short_text(file), source=str(file))
    except FileNotFoundError:
        raise UserError(f"{file}: {missing}") from None
    except configparser.Error as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def _short_text(file: Path) -> str:
    """Return the text of a file, if it is so short that parsing takes no time whatever it holds."""
    try:
        size = file.stat().st_size
        text = file.read_text(encoding="utf-8-sig") if size <= MAX_BYTES else ""
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    # configparser's time grows with the square of a line's length.
    if size > MAX_BYTES or max(map(len, text.split("\n"))) > MAX_LINE:
        raise UserError(f"{file}: expected a configuration of at most {MAX_BYTES} bytes, {MAX_LINE} a line")
    return text


def current_name(section: str, name: str, value: str) -> tuple[str, str]:
    """Translate the key `average_mode` of retina-unet; return any other name and value unchanged."""
    windows = {"true": "overlap", "false": "side_by_side"}
    if (section, name) == ("testing settings", "average_mode") and value.lower() in windows:
        return "window", windows[value.lower()]
    return name, value


def current_key(key: str, value: str) -> str:
    """The same for "section.key"; the value decides whether it is a key of retina-unet."""
    section, _, name = key.strip().rpartition(".")
    return f"{section}.{current_name(section, name, value.strip())[0]}"
