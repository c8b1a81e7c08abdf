"""Readers of configuration values: from text to number, path or word, or an error with what is expected."""

from __future__ import annotations

import configparser
import difflib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lib.runtime.paths import PROJECT

Reader = Callable[[str], Any]
"""Turns the text of a key into its value; raises `ValueError` with what is expected."""


def boolean(value: str) -> bool:
    """True or False, in the words that `configparser` accepts."""
    states = configparser.ConfigParser.BOOLEAN_STATES
    if value.lower() not in states:
        raise ValueError("True or False")
    return states[value.lower()]


def test_time_augmentation(value: str) -> str:
    """none, mirrors or symmetries; older files have False and True instead of none and mirrors."""
    if value.lower() in configparser.ConfigParser.BOOLEAN_STATES:
        return "mirrors" if boolean(value) else "none"
    return one_of("none", "mirrors", "symmetries")(value)


def number(
    kind: type, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> Reader:
    """Return a reader of a finite int or float with `least` <= value <= `most` and value > `above`."""
    bounds = [
        f"{words} {bound:g}"
        for words, bound in (("at least", least), ("above", above), ("at most", most))
        if math.isfinite(bound)
    ]
    expected = " ".join(["a whole number" if kind is int else "a number", " and ".join(bounds)]).strip()

    def read(value: str) -> Any:
        try:
            result = kind(value)
        except ValueError:
            raise ValueError(expected) from None
        if not (math.isfinite(result) and least <= result <= most and result > above):
            raise ValueError(expected)
        return result

    return read


def one_of(*choices: str) -> Reader:
    """Return a reader of one of the given words, in capital or small letters."""

    def read(value: str) -> str:
        if value.lower() not in choices:
            near = difflib.get_close_matches(value.lower(), choices, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"one of {', '.join(choices)}{hint}")
        return value.lower()

    return read


def several_of(*choices: str) -> Reader:
    """Return a reader of one or more different words of `choices`, separated by spaces or commas."""
    read_one = one_of(*choices)

    def read(value: str) -> tuple[str, ...]:
        found = tuple(read_one(word) for word in value.replace(",", " ").split())
        if not found or len(set(found)) < len(found):
            raise ValueError(f"one or more different words of {', '.join(choices)}")
        return found

    return read


def optional(read: Reader) -> Reader:
    """Return a reader of any value that `read` reads, or None for an empty text."""
    return lambda value: read(value) if value else None


def either(word: str, otherwise: Reader) -> Reader:
    """Return a reader of the given word, or of any value that `otherwise` reads."""

    def read(value: str) -> Any:
        if value.lower() == word:
            return word
        try:
            return otherwise(value)
        except ValueError as error:
            raise ValueError(f"'{word}' or {error}") from None

    return read


def words(value: str) -> tuple[str, ...]:
    """Words separated by commas; may be empty."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def whole_numbers(value: str) -> tuple[int, ...]:
    """At least two whole numbers above 0, separated by spaces or commas."""
    try:
        numbers = tuple(int(part) for part in value.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if len(numbers) < 2 or min(numbers) < 1:
        raise ValueError("two or more whole numbers above 0, e.g. 64 128 256 512")
    return numbers


def ratio(value: str) -> tuple[float, float, float]:
    """Three shares `train:validation:test`; without training images, all others are test images."""
    try:
        train, validation, test = (float(part) for part in value.split(":"))
    except ValueError:
        train = validation = test = math.nan
    if not (0 <= train < math.inf and 0 <= validation < math.inf and 0 <= test < math.inf):
        raise ValueError("train:validation:test, e.g. 6:2:2")
    if train == 0 and (validation > 0 or test == 0):
        raise ValueError("train:validation:test, e.g. 6:2:2; without training images 0:0:1")
    return train, validation, test


def pattern(value: str) -> re.Pattern[str]:
    """A regular expression whose first group is the patient."""
    try:
        compiled = re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    if compiled.groups < 1:
        raise ValueError("a regular expression with one group, e.g. ^([^-_]+)")
    return compiled


def title(value: str) -> str:
    """A short name for figures and tables."""
    if not value or len(value) > 40 or not value.isprintable():
        raise ValueError("a short name, e.g. CNP")
    return value


def _refuse_line_break(value: str) -> None:
    if "\n" in value:
        raise ValueError("one line; the next line begins with a blank, so it counts as a part of this value")


def experiment_name(value: str) -> str:
    """The name of a folder, not a path: results must stay inside `path_experiments`."""
    _refuse_line_break(value)
    if not value or value in {".", ".."} or re.search(r'[/\\\0:*?"<>|]', value):
        raise ValueError('a plain folder name without / \\ : * ? " < > |')
    return value


def path(value: str) -> Path:
    """A path; a relative path starts at the folder of the project, not at the working directory."""
    _refuse_line_break(value)
    if not value or "\0" in value:
        raise ValueError("a path")
    return PROJECT / Path(value).expanduser()


def paths(value: str) -> tuple[Path, ...]:
    """Paths separated by commas, each as by `path`; may be empty."""
    return tuple(path(word) for word in words(value))


def file_name(value: str) -> str:
    """The name of a file in the folder `path_local`."""
    _refuse_line_break(value)
    if not value or Path(value).name != value:
        raise ValueError("a file name without folders (the folder is path_local)")
    return value


class Folds(NamedTuple):
    """The folds that test a network.

    Attributes:
        tested: one or two numbers, from 1, in ascending order.
        number: how many folds there are.
    """

    tested: tuple[int, ...]
    number: int

    def __str__(self) -> str:
        return f"{'+'.join(map(str, self.tested))}/{self.number}"


def folds(value: str) -> Folds:
    """`k/n`: the k-th of n folds; `k+l/n`: two of them."""
    match = re.fullmatch(r"(\d{1,4})(?:\s*\+\s*(\d{1,4}))?\s*/\s*(\d{1,4})", value)
    tested = tuple(int(number) for number in match.groups()[:2] if number) if match else ()
    number = int(match[3]) if match else 0
    if number < 3 or not 1 <= tested[0] <= tested[-1] <= number or len(set(tested)) < len(tested):
        raise ValueError(
            "nothing, or k/n with 1 <= k <= n and at least 3 folds, e.g. 1/5, or k+l/n with k < l, e.g. 1+3/5"
        )
    return Folds(tested, number)


def optional_boolean(value: str) -> bool | None:
    """True, False, or None for `auto`: the choice of the network's paper."""
    return None if value.lower() == "auto" else boolean(value)
