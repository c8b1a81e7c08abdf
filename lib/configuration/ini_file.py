"""Configuration files as texts: parsed, and laid over the file that their section [base] names."""

import configparser
import os
from pathlib import Path
from typing import Any

from lib.runtime.errors import UserError

MAX_BYTES, MAX_LINE = 2**16, 2**12
"""Of a configuration file, and characters of one of its lines: far more than any has."""


def read_texts(
    file: Path, seen: tuple[str, ...] = ()
) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], Path]]:
    """Sections and keys of the file over those of the file that its section [base] names.

    Returns:
        The texts, and for each section and key the file that it comes from.
    """
    found = ini_sections(file, "no such configuration file; name one with --config")
    texts = {
        section: dict(current_name(section, name, value) for name, value in keys.items())
        for section, keys in found.items()
    }
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
    merged, merged_origins = read_texts(under, (*seen, os.path.realpath(file)))
    for section, keys in texts.items():
        merged.setdefault(section, {}).update(keys)
    return merged, merged_origins | origins


def ini_sections(file: Path, missing: str, **options: Any) -> dict[str, dict[str, str]]:
    """Sections and keys of an INI file; keys keep their case, as N_subimgs has one.

    Args:
        file: what to read.
        missing: what to say where there is no such file.
        options: of `configparser.ConfigParser`.

    Raises:
        UserError: too large, no text in UTF-8, or no INI file.
    """
    # No interpolation: '%' is a character of paths.
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", **options)
    parser.optionxform = str
    try:
        parser.read_string(_short_text(file), source=str(file))
    except FileNotFoundError:
        raise UserError(f"{file}: {missing}") from None
    except configparser.Error as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def _short_text(file: Path) -> str:
    """The text of a file, short enough to be parsed at once whatever it says."""
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


def current_name(section: str, name: str, value: str) -> tuple[str, str]:
    """retina-unet's `average_mode` under its present name."""
    windows = {"true": "overlap", "false": "side_by_side"}
    if (section, name) == ("testing settings", "average_mode") and value.lower() in windows:
        return "window", windows[value.lower()]
    return name, value
