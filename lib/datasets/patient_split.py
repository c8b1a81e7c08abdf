"""Train, validation and test parts that never share a patient, written down as JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance

from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError, raise_all

PARTS = ("train", "validation", "test")
DRAWS = 200
"""Random orders of the patients among which the best-balanced split is taken."""


@dataclass(frozen=True)
class Member:
    """What a split needs to know of an image.

    Attributes:
        name: file name without its ending.
        patient: whose image it is.
        sha256: of the image file.
        truth_fraction: share of the field of view that the truth covers; None without truth.
        pixels: SHA-256 of the image's pixels, whatever file they are in.
    """

    name: str
    patient: str
    sha256: str
    truth_fraction: float | None
    pixels: str = ""


Split = dict[str, list[Member]]


def split_by_patient(
    members: Sequence[Member], ratio: tuple[float, float, float], seed: int
) -> Split:
    """Parts in the given ratio of images, as nearly as whole patients allow, alike in truth fraction.

    Of `DRAWS` random orders of the patients the one is taken whose parts come nearest to their sizes
    and, among those, whose truth fractions are distributed most like those of all images (Wasserstein
    distance; equal means alone would let one large area stand against many small ones). Nothing but
    truth areas is looked at, and the same members, ratio and seed give the same split.

    Raises:
        UserError: fewer patients than parts.
    """
    patients = sorted({m.patient for m in members})
    wanted = [part for part, share in zip(PARTS, ratio, strict=True) if share > 0]
    if len(patients) < len(wanted):
        raise UserError(
            f"{len(patients)} patient(s) cannot fill {len(wanted)} parts: add images, "
            "set [preparation] split_ratio (0 leaves a part empty), or check patient_pattern"
        )
    images = {p: [m for m in members if m.patient == p] for p in patients}
    targets = np.asarray(ratio) / sum(ratio) * len(members)
    generator = np.random.default_rng(seed)
    best: tuple[tuple[float, float], Split] | None = None
    for _ in range(DRAWS):
        split = _fill([images[p] for p in generator.permutation(patients)], targets)
        badness = _badness(split, targets)
        if best is None or badness < best[0]:
            best = badness, split
    return {part: sorted(chosen, key=lambda m: m.name) for part, chosen in best[1].items()}


def _fill(patients: list[list[Member]], targets: np.ndarray) -> Split:
    """Test first, then validation: one patient, and more until the next would overshoot more.

    The rest trains; each part that is wanted is left at least one patient.
    """
    split: Split = {part: [] for part in PARTS}
    waiting = list(patients)
    for part, target, before in ((2, targets[2], targets[:2]), (1, targets[1], targets[:1])):
        members, needed = split[PARTS[part]], np.count_nonzero(before)
        while (
            target > 0
            and len(waiting) > needed
            and (not members or len(members) + len(waiting[0]) / 2 <= target)
        ):
            members += waiting.pop(0)
    split["train"] = [member for images in waiting for member in images]
    return split


def _badness(split: Split, targets: np.ndarray) -> tuple[float, float]:
    """How far the parts are from their sizes; how unlike their truth fractions are to those of all."""
    size = sum(abs(len(split[p]) - t) for p, t in zip(PARTS, targets, strict=True))
    fractions = [[m.truth_fraction for m in split[p]] for p in PARTS if split[p]]
    everyone = [fraction for part in fractions for fraction in part]
    return round(size, 6), sum(wasserstein_distance(part, everyone) for part in fractions)


def split_by_fold(members: Sequence[Member], fold: tuple[int, int], seed: int) -> Split:
    """The k-th of n folds of the patients tests, the one after it validates, the others train.

    As many folds as patients leave one patient out at a time, in the order of their names. Fewer are
    alike in size and truth: patients are ranked by the area of their truth, and of each n that follow
    one another every fold gets one at random.

    Raises:
        UserError: fewer patients than folds.
    """
    patients = sorted({m.patient for m in members})
    folds = fold[1]
    if len(patients) < folds:
        raise UserError(
            f"{len(patients)} patient(s) cannot fill the {folds} folds of [preparation] fold"
        )
    if len(patients) == folds:
        return _of_patients(_parts_of_folds([[p] for p in patients], fold), members)
    generator = np.random.default_rng(seed)
    area = {p: sum(m.truth_fraction for m in members if m.patient == p) for p in patients}
    ranked = sorted(patients, key=lambda p: -area[p])
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for start in range(0, len(ranked), folds):
        block = ranked[start : start + folds]
        for number, patient in zip(generator.permutation(folds), block, strict=False):
            dealt[number].append(patient)
    return _of_patients(_parts_of_folds(dealt, fold), members)


def _of_patients(patients: dict[str, list[str]], members: Sequence[Member]) -> Split:
    everyone = sorted(members, key=lambda m: m.name)
    return {part: [m for m in everyone if m.patient in chosen] for part, chosen in patients.items()}


def _parts_of_folds(folds: list[list[str]], fold: tuple[int, int]) -> dict[str, list[str]]:
    """Test part: the fold chosen; validation: the one after it; train: all others."""
    part_of = {fold[0] - 1: "test", fold[0] % fold[1]: "validation"}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for index, names in enumerate(folds):
        parts[part_of.get(index, "train")] += names
    return parts


def write_split(file: Path, split: Split, how: str) -> None:
    """Write the split as JSON; `how` says in words where it comes from."""
    content = {
        "how": how,
        "parts": {part: [asdict(m) for m in members] for part, members in split.items()},
    }
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def given_split(
    file: Path, members: Sequence[Member], fold: tuple[int, int] | None = None
) -> tuple[Split, str]:
    """The parts that `file` names, for exactly these images, and where they come from.

    The file holds `parts`, or `folds` (a list of lists of names), of which `fold` chooses.

    Raises:
        UserError: the file is no split, or lists every image that is missing, left over, changed
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
    faults += shared_patients(split)
    raise_all(faults, f"{file} does not fit the images")
    return split, how


def shared_patients(split: Split) -> list[str]:
    """One line for every patient who is in more than one part."""
    parts_of: dict[str, set[str]] = {}
    for part, members in split.items():
        for member in members:
            parts_of.setdefault(member.patient, set()).add(part)
    return [
        f"patient {patient} is in {' and '.join(sorted(parts))}"
        for patient, parts in parts_of.items()
        if len(parts) > 1
    ]


NamedParts = dict[str, list[tuple[str, str | None]]]
"""Names, and SHA-256 where it is given, of the images of each part."""


def _read_parts(file: Path, fold: tuple[int, int] | None) -> tuple[NamedParts, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        how = f"{file.name}: {content.get('how') or content.get('source', 'given')}"
        if fold and "folds" not in content:
            raise UserError(
                f"{file}: names parts, not folds; with [preparation] fold = {fold[0]}/{fold[1]} expected "
                "split_file empty, or a file of folds"
            )
        if "folds" in content:
            return _chosen(content["folds"], fold, file), f"{how}; fold {'/'.join(map(str, fold))}"
        parts = {
            part: [(m["name"], m.get("sha256")) for m in content["parts"].get(part, [])]
            for part in PARTS
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: not a split ({type(error).__name__}: {error}); expected JSON with "
            '{"parts": {"train": [{"name": ...}], "validation": [...], "test": [...]}}'
        ) from None
    return parts, how


def _chosen(folds: list[list[str]], fold: tuple[int, int] | None, file: Path) -> NamedParts:
    if fold is None or fold[1] != len(folds):
        raise UserError(
            f"{file}: holds {len(folds)} folds; choose one with [preparation] fold = 1/{len(folds)}"
        )
    parts = _parts_of_folds(folds, fold)
    return {part: [(name, None) for name in names] for part, names in parts.items()}
