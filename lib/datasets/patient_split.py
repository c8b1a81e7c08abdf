"""Split images by patient into training, validation and test parts, or into folds."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import wasserstein_distance
from sklearn.model_selection import KFold, StratifiedKFold

from lib.configuration.values import Folds
from lib.datasets.split_file import PARTS, Member, Split, parts_of_folds
from lib.runtime.errors import UserError

MINUS = "\N{MINUS SIGN}"
"""A dash in use, but not in Unicode's category of dashes (Pd)."""

RANDOM_ORDERS = 200
"""Random orders of the patients; the split with the best balance is taken."""


def comparable_name(name: str) -> str:
    """The name as it is compared: patients are the same if their names differ only in writing.

    Made equal are compatible characters (Unicode NFKC: full and half width, composed and decomposed accents),
    upper and lower case, all hyphens and dashes, and runs of blanks; invisible characters are removed.
    """
    return unicodedata.normalize("NFKC", _plain(name).casefold()).strip()


def _plain(name: str) -> str:
    """The name with compatible characters, dashes and blanks made equal, without invisible characters."""
    kinds = ((c, unicodedata.category(c)) for c in unicodedata.normalize("NFKC", name))
    text = "".join("-" if kind == "Pd" or c == MINUS else c for c, kind in kinds if kind != "Cf")
    return re.sub(r"\s+", " ", text)


def patient_of(name: str, pattern: re.Pattern[str]) -> str:
    """The patient id in the name of an image: the first group of the pattern, as `comparable_name`.

    The pattern is searched in the name with compatible characters and dashes made equal (its case is kept),
    so that `^([^-_]+)` also ends at a full-width underscore or an en dash; else in the name itself.

    Returns:
        The id; "" if the pattern matches neither, or its group is blank.
    """
    match = pattern.search(_plain(name)) or pattern.search(name)
    return comparable_name(match[1] or "") if match else ""


def differently_written(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """One line for each patient whose id is written in several ways in the names of images."""
    writings: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        match = pattern.search(name)
        written = (match[1] or "").strip() if match else name
        writings[patient_of(name, pattern)].setdefault(written, name)
    return [
        f"one patient, {patient}, although written differently: {', '.join(images.values())}"
        for patient, images in writings.items()
        if patient and len(images) > 1
    ]


def split_by_patient(members: Sequence[Member], ratio: tuple[float, float, float], seed: int) -> Split:
    """Split by patient in the given ratio of images, with similar truth fractions in all parts.

    Of `RANDOM_ORDERS` orders of the patients, the one is taken whose parts are nearest to their
    sizes and then, by Wasserstein distance, whose truth fractions are distributed most like those of
    all images. (Means would not do: one large area could balance many small ones.) No other property
    of the images is used. The same members, ratio and seed give the same split.

    Raises:
        UserError: fewer patients than parts.
    """
    images = _images_by_patient(members)
    patients = sorted(images)
    wanted = [part for part, share in zip(PARTS, ratio, strict=True) if share > 0]
    if len(patients) < len(wanted):
        raise UserError(
            f"{len(patients)} patient(s) cannot fill {len(wanted)} parts: add images, "
            "set [preparation] split_ratio (0 leaves a part empty), or check patient_pattern"
        )
    sizes = np.asarray(ratio) / sum(ratio) * len(members)
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(patients) for _ in range(RANDOM_ORDERS))
    splits = (_fill([images[p] for p in order], sizes) for order in orders)
    best = min(splits, key=lambda split: _imbalance(split, sizes))
    return {part: sorted(chosen, key=lambda m: m.name) for part, chosen in best.items()}


def _images_by_patient(members: Sequence[Member]) -> dict[str, list[Member]]:
    images: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        images[member.patient].append(member)
    return images


def _fill(patients: list[list[Member]], sizes: np.ndarray) -> Split:
    """Fill the test part, then the validation part; the remaining patients are for training.

    A part takes patients while at least half of the images of the next one fit into its size. Each
    part with a size above 0 keeps at least one patient.
    """
    split: Split = {part: [] for part in PARTS}
    waiting = list(patients)
    for part, size, before in ((2, sizes[2], sizes[:2]), (1, sizes[1], sizes[:1])):
        members, needed = split[PARTS[part]], np.count_nonzero(before)
        while (
            size > 0 and len(waiting) > needed and (not members or len(members) + len(waiting[0]) / 2 <= size)
        ):
            members += waiting.pop(0)
    split["train"] = [member for images in waiting for member in images]
    return split


def _imbalance(split: Split, sizes: np.ndarray) -> tuple[float, float]:
    """Difference of the parts from their sizes, then of their truth fractions from those of all images."""
    size = sum(abs(len(split[p]) - s) for p, s in zip(PARTS, sizes, strict=True))
    fractions = [[m.truth_fraction for m in split[p]] for p in PARTS if split[p]]
    together = [fraction for part in fractions for fraction in part]
    return round(size, 6), sum(wasserstein_distance(part, together) for part in fractions)


def split_by_fold(members: Sequence[Member], fold: Folds, seed: int) -> Split:
    """Cross-validation by patient: fold k of n tests, the next fold validates, the others train.

    If `fold` names two folds, both test and none validates.

    With as many folds as patients, each fold is one patient, in the order of names (leave one out).
    Otherwise scikit-learn's `StratifiedKFold` distributes the patients at random; its strata are groups
    of n patients with similar areas of truth, so that each fold gets one patient of each group.

    Raises:
        UserError: fewer patients than folds.
    """
    folds = fold.number
    images = _images_by_patient(members)
    patients = sorted(images)
    if len(patients) < folds:
        raise UserError(f"{len(patients)} patient(s) cannot fill the {folds} folds of [preparation] fold")
    if len(patients) == folds:
        splitter = KFold(folds)
    else:  # scikit-learn accepts seeds of 32 bits
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    areas = [-sum(m.truth_fraction or 0 for m in images[p]) for p in patients]
    ranks = np.argsort(np.argsort(areas, kind="stable"))  # 0: the largest area
    # An incomplete last group joins the one before: a stratum needs a patient for each fold.
    strata = np.minimum(ranks // folds, len(patients) // folds - 1)
    parts = parts_of_folds(
        [[patients[i] for i in tested] for _, tested in splitter.split(strata, strata)], fold.tested
    )
    ordered = sorted(members, key=lambda m: m.name)
    return {part: [m for m in ordered if m.patient in parts[part]] for part in PARTS}
