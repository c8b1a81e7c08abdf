"""The file split.json: which image, of which patient, is in which part; written, read and checked."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.configuration.values import Folds
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError, raise_all

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Member:
    """One image of a split.

    Attributes:
        name: file name without its extension.
        patient: patient id.
        sha256: SHA-256 of the image file.
        truth_fraction: share of the field of view that the truth covers; None without truth.
        pixels: SHA-256 of the image's pixels, which is the same in every file format.
        negative: whether it is an image of `path_negatives`; these only train.
    """

    name: str
    patient: str
    sha256: str
    truth_fraction: float | None
    pixels: str = ""
    negative: bool = False


Split = dict[str, list[Member]]
"""The images of each part."""


def write_split(file: Path, split: Split, how: str, preparation: Mapping[str, str] | None = None) -> None:
    """Write the split as JSON.

    Args:
        file: the JSON file.
        split: the images of each part.
        how: how the split was made, in words.
        preparation: the texts of [preparation] with which the images were prepared; None if not known.
    """
    content: dict[str, Any] = {"how": how}
    if preparation:
        content["preparation"] = dict(preparation)
    content["parts"] = {part: [_entry(m) for m in members] for part, members in split.items()}
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def preparation_of_split(file: Path) -> dict[str, str]:
    """The texts of [preparation] in a split file; empty if it holds none, as those of earlier versions.

    Raises:
        UserError: the file is damaged.
    """
    texts = read_json(file, "prepare the data again").get("preparation", {})
    if not isinstance(texts, dict):
        raise UserError(f"{file}: preparation = {texts}: expected keys and texts; prepare the data again")
    return texts


def _entry(member: Member) -> dict[str, Any]:
    """The entry of an image; only negatives are marked, so that other entries are those of older files."""
    entry = asdict(member)
    if not member.negative:
        del entry["negative"]
    return entry


def read_split(file: Path, expected: str) -> Split:
    """Read a split that `write_split` wrote; the error for a missing file says what was `expected`.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected {expected}")
    try:
        parts = json.loads(file.read_text(encoding="utf-8"))["parts"]
        return {part: [Member(**member) for member in members] for part, members in parts.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: not a split of this program ({error}); prepare the data again") from None


def union_of_splits(splits: Sequence[Split]) -> Split:
    """The split of an ensemble: what one of its members has used for training, the ensemble has used.

    An image is in the first of train, validation, test in which it is for any member.
    """
    union: Split = {part: [] for part in PARTS}
    known: set[str] = set()
    for part in PARTS:
        for member in (m for split in splits for m in split.get(part, [])):
            if member.sha256 not in known:
                known.add(member.sha256)
                union[part].append(member)
    return union


def read_given_split(file: Path, members: Sequence[Member], fold: Folds | None = None) -> tuple[Split, str]:
    """Read a split that a person made, check that it fits the images, and say where it comes from.

    The file contains `parts`, or `folds` (a list of lists of names); `fold` says which of them test. Entries
    that are marked as negatives are left out: path_negatives says which images these are.

    Raises:
        UserError: the file is not a split; or lists every image that is missing, in no part, changed
            (by SHA-256) or named twice, and every patient in two parts.
    """
    named, how = _read_parts(file, fold)
    known = {m.name: m for m in members}
    faults = []
    for name, count in Counter(n for part in named.values() for n, _ in part).items():
        if count > 1:
            faults.append(f"image {name} is named {count} times")
        if name not in known:
            faults.append(f"image {name} is in the split but not in the folder")
    listed = {name: sha for part in named.values() for name, sha in part}
    faults += [f"image {name} is in the folder but in no part" for name in known.keys() - listed]
    faults += [
        f"image {name} has changed since the split was made (SHA-256)"
        for name, sha in listed.items()
        if sha is not None and name in known and known[name].sha256 != sha
    ]
    split = {part: [known[n] for n, _ in named[part] if n in known] for part in PARTS}
    parts_of: dict[str, set[str]] = defaultdict(set)
    for part, chosen in split.items():
        for member in chosen:
            parts_of[member.patient].add(part)
    faults += [
        f"patient {patient} is in {' and '.join(sorted(parts))}"
        for patient, parts in parts_of.items()
        if len(parts) > 1
    ]
    raise_all(faults, f"{file} does not fit the images")
    return split, how


NamedParts = dict[str, list[tuple[str, str | None]]]
"""Name and SHA-256 (None if not given) of the images of each part."""


def _read_parts(file: Path, fold: Folds | None) -> tuple[NamedParts, str]:
    parts: NamedParts
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        how = f"{file.name}: {content.get('how') or content.get('source', 'given')}"
        if fold and "folds" not in content:
            raise UserError(
                f"{file}: names parts, not folds; with [preparation] fold = {fold} expected "
                "split_file empty, or a file of folds"
            )
        if "folds" in content:
            folds = content["folds"]
            if fold is None or fold.number != len(folds):
                raise UserError(
                    f"{file}: contains {len(folds)} folds; "
                    f"select one with [preparation] fold = 1/{len(folds)}"
                )
            if not all(isinstance(name, str) for names in folds for name in names):
                raise TypeError("a fold is not a list of names")
            named = parts_of_folds(folds, fold.tested)
            parts = {part: [(name, None) for name in names] for part, names in named.items()}
            return parts, f"{how}; fold {fold}"
        parts = {
            part: [
                (m["name"], m.get("sha256"))
                for m in content["parts"].get(part, [])
                if not m.get("negative", False)
            ]
            for part in PARTS
        }
        if not all(isinstance(name, str) for named in parts.values() for name, _ in named):
            raise TypeError("a name is not text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: not a split ({type(error).__name__}: {error}); expected JSON with "
            '{"parts": {"train": [{"name": ...}], "validation": [...], "test": [...]}} or '
            '{"folds": [["name", ...], ...]}'
        ) from None
    return parts, how


def parts_of_folds(folds: list[list[str]], tested: Sequence[int]) -> dict[str, list[str]]:
    """Names in the parts if the folds with the numbers `tested`, from 1, are the test part.

    If one fold tests, the next one validates; if two test, none validates. The others train.
    """
    part_of = {number - 1: "test" for number in tested}
    if len(tested) == 1:
        part_of[tested[0] % len(folds)] = "validation"
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for index, names in enumerate(folds):
        parts[part_of.get(index, "train")] += names
    return parts
