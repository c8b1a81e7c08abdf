"""What every data set shares: images found good become nine HDF5 files, a contact sheet and split.json."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lib.configuration.reading import Configuration
from lib.datasets.patient_split import (
    PARTS,
    Member,
    Split,
    given_split,
    split_by_fold,
    split_by_patient,
    write_split,
)
from lib.datasets.prepared_hdf5 import PreparedImage, write_part
from lib.figures.dataset_preview import ContactSheetEntry, contact_sheet, preprocessing_figure
from lib.images.preprocessing import preprocessing_steps
from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress


@dataclass(frozen=True)
class Source:
    """An image that was read once and found good.

    Attributes:
        member: what the split needs to know of it.
        file: name of the image file, for messages.
        shape: of its pixels.
        read: reads it again, to be packed.
    """

    member: Member
    file: str
    shape: tuple[int, ...]
    read: Callable[[], PreparedImage]


def duplicates(sources: Sequence[Source]) -> list[str]:
    """One line for each image that is there more than once, under whatever names."""
    same = defaultdict(list)
    for source in sources:
        same[source.member.pixels].append(source.file)
    return [f"the same image: {', '.join(names)}" for names in same.values() if names[1:]]


def choose_split(configuration: Configuration, members: Sequence[Member]) -> tuple[Split, str]:
    """The split that section [preparation] asks for, and in words where it comes from.

    A split that is drawn leaves images without truth out.

    Raises:
        UserError: the given split does not fit, or there are too few patients.
    """
    settings = configuration.preparation
    if settings.split_file:
        split, how = given_split(settings.split_file, members, settings.fold)
        raise_all(_mixed_parts(split), f"{settings.split_file} does not fit the images")
        return split, how
    members = [m for m in members if m.truth_fraction is not None]
    if settings.fold:
        number, folds = settings.fold
        how = f"by patient, fold {number} of {folds}, seed {settings.split_seed}"
        return split_by_fold(members, settings.fold, settings.split_seed), how
    how = (
        f"by patient, {configuration.texts['preparation']['split_ratio']} of the images, "
        f"balanced in area of {configuration.data_attributes.structure}, seed {settings.split_seed}"
    )
    return split_by_patient(members, settings.split_ratio, settings.split_seed), how


def _mixed_parts(split: Split) -> list[str]:
    """Images without truth in a part of which others have it: they can be neither learnt nor scored."""
    return [
        f"image {member.name} of the {part} part has no truth, others of it have"
        for part, members in split.items()
        for member in members
        if member.truth_fraction is None and any(m.truth_fraction is not None for m in members)
    ]


def pack(configuration: Configuration, sources: Sequence[Source]) -> Split:
    """Split the images; write HDF5 files, pictures and split.json, which all appear together at the end.

    A part whose images came without truth gets no truth file.
    """
    split, how = choose_split(configuration, [source.member for source in sources])
    paths = configuration.data_paths
    by_name = {source.member.name: source for source in sources}
    wanted = {part: _files(paths.hdf5(part), split[part]) for part in PARTS if split[part]}
    pictures = [paths.path_local / name for name in ("prepared.png", "preprocessing.png")]
    shapes = [source.shape for source in sources]
    channels = 3 if any(len(s) == 3 for s in shapes) else 1
    largest = (max(s[0] for s in shapes), max(s[1] for s in shapes), channels)
    written = [file for files in wanted.values() for file in files if file]
    with written_atomically(*written, *pictures, paths.path_local / "split.json") as beside:
        waiting = iter(beside)
        for part, files in wanted.items():
            temporary = tuple(file and next(waiting) for file in files)
            members = progress(split[part], f"packing {part}")
            images = (by_name[member.name].read() for member in members)
            write_part(temporary, images, (len(split[part]), *largest))
        _draw(configuration, by_name, split, beside[-3], beside[-2])
        write_split(beside[-1], split, how)
    for part in PARTS:  # of an earlier preparation
        for file in set(paths.hdf5(part)) - set(written):
            file.unlink(missing_ok=True)
    return split


def table(split: Split, structure: str) -> str:
    """Images, patients and mean share of the structure in the field of view, a line for each part."""
    lines = [f"{'part':<12}{'images':>8}{'patients':>10}{structure + ' in the field of view':>32}"]
    for part, members in split.items():
        shares = [m.truth_fraction for m in members if m.truth_fraction is not None]
        mean = f"{sum(shares) / len(shares):.1%}" if shares else "n/a"
        lines.append(
            f"{part:<12}{len(members):>8}{len({m.patient for m in members}):>10}{mean:>32}"
        )
    return "\n".join(lines)


def same_size(mask: np.ndarray, file: Path, shape: tuple[int, int]) -> np.ndarray:
    """The mask read from `file`.

    Raises:
        UserError: it is not of its image's `shape`, height and width.
    """
    if mask.shape != shape:
        raise UserError(
            f"{file}: {mask.shape[1]}x{mask.shape[0]} pixels, its image "
            f"{shape[1]}x{shape[0]}: expected the same size"
        )
    return mask


def _files(
    files: tuple[Path, Path, Path], members: Sequence[Member]
) -> tuple[Path, Path | None, Path]:
    has_truth = any(member.truth_fraction is not None for member in members)
    return files[0], files[1] if has_truth else None, files[2]


def _draw(
    configuration: Configuration, sources: dict[str, Source], split: Split, sheet: Path, steps: Path
) -> None:
    structure = configuration.data_attributes.structure

    def entry(member: Member) -> ContactSheetEntry:
        image = sources[member.name].read()
        share = member.truth_fraction
        shown = "no truth" if share is None else f"{structure} {share:.1%}"
        truth = np.zeros_like(image.field_of_view) if share is None else image.truth
        return ContactSheetEntry(
            f"{member.name} · {shown}", image.original, truth, image.field_of_view
        )

    parts = {part: [partial(entry, m) for m in split[part]] for part in PARTS if split[part]}
    contact_sheet(sheet, parts, structure)
    first = next(iter(parts.values()))[0]()
    settings = configuration.preprocessing
    preprocessing_figure(steps, preprocessing_steps(first.image, first.field_of_view, settings))
