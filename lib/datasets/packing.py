"""Write checked images as nine HDF5 files, with a contact sheet and split.json; for every data set."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import SPLIT
from lib.datasets.leakage import Fingerprint, near_copies, perceptual_hash, pixels_sha256
from lib.datasets.patient_split import split_by_fold, split_by_patient
from lib.datasets.prepared_hdf5 import PreparedImage, write_part
from lib.datasets.split_file import PARTS, Member, Split, read_given_split, read_split, write_split
from lib.figures.dataset_preview import ContactSheetEntry, contact_sheet, preprocessing_figure
from lib.images.checked_files import file_sha256
from lib.images.preprocessing import preprocessing_steps
from lib.images.reading import read_mask
from lib.runtime.atomic_files import remove_abandoned, written_atomically
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress


@dataclass(frozen=True)
class CheckedImage:
    """An image that was read once and has no faults.

    Attributes:
        member: its entry in the split.
        file: name of the image file, for messages.
        shape: shape of the pixels.
        read: reads the image again, when it is written.
        perceptual: its perceptual hash.
    """

    member: Member
    file: str
    shape: tuple[int, ...]
    read: Callable[[], PreparedImage]
    perceptual: np.ndarray


def checked_image(
    file: Path, image: PreparedImage, read: Callable[[], PreparedImage], *, negative: bool = False
) -> CheckedImage:
    """The image that was read from `file`; `read` reads it again; `negative` if it is of `path_negatives`.

    Raises:
        UserError: its field of view is empty.
    """
    inside = image.field_of_view > 0
    if not inside.any():
        raise UserError(f"{file}: its field of view is empty (a black image?)")
    truth_fraction = None if image.truth is None else round(float(image.truth[inside].mean()), 6)
    pixels = pixels_sha256(image.original)
    member = Member(image.name, image.patient, file_sha256(file), truth_fraction, pixels, negative)
    name = f"{file.parent.name}/{file.name}" if negative else file.name
    return CheckedImage(member, name, image.original.shape, read, perceptual_hash(image.original))


def duplicates(images: Sequence[CheckedImage]) -> list[str]:
    """One line for each image that occurs more than once, under any names."""
    same = defaultdict(list)
    for image in images:
        same[image.member.pixels].append(image.file)
    return [f"the same image: {', '.join(names)}" for names in same.values() if names[1:]]


def choose_split(configuration: Configuration, members: Sequence[Member]) -> tuple[Split, str]:
    """The split that section [preparation] defines, and a description in words of how it was made.

    A random split leaves out images without truth. Negatives are added to the training part of every split.

    Raises:
        UserError: the given split does not fit, or there are too few patients.
    """
    negatives = [m for m in members if m.negative]
    split, how = _split_of_labelled(configuration, [m for m in members if not m.negative])
    if negatives:  # after the others: the first image of the part is drawn in preprocessing.png
        split["train"] = [*split["train"], *sorted(negatives, key=lambda m: m.name)]
        how += f"; {len(negatives)} negatives in train"
    return split, how


def _split_of_labelled(configuration: Configuration, members: Sequence[Member]) -> tuple[Split, str]:
    settings = configuration.preparation
    if settings.split_file:
        split, how = read_given_split(settings.split_file, members, settings.fold)
        raise_all(_mixed_parts(split), f"{settings.split_file} does not fit the images")
        return split, how
    members = [m for m in members if m.truth_fraction is not None]
    if settings.fold:
        tested = " and ".join(map(str, settings.fold.tested))
        how = f"by patient, fold {tested} of {settings.fold.number}, seed {settings.split_seed}"
        return split_by_fold(members, settings.fold, settings.split_seed), how
    how = (
        f"by patient, {configuration.texts['preparation']['split_ratio']} of the images, "
        f"balanced in area of {configuration.data_attributes.structure}, seed {settings.split_seed}"
    )
    return split_by_patient(members, settings.split_ratio, settings.split_seed), how


def _mixed_parts(split: Split) -> list[str]:
    """One line for each image without truth in a part in which other images have truth."""
    return [
        f"image {member.name} of the {part} part has no truth, but other images of this part have"
        for part, members in split.items()
        for member in members
        if member.truth_fraction is None and any(m.truth_fraction is not None for m in members)
    ]


def pack(configuration: Configuration, images: Sequence[CheckedImage]) -> Split:
    """Split the images; write HDF5 files, pictures and split.json atomically, all at the end.

    A part whose images have no truth gets no truth file. Prints a warning of near-copies under the names of
    two patients, and of trained experiments that depend on an earlier split which this one replaces.
    """
    split, how = choose_split(configuration, [image.member for image in images])
    # `path_test` is a folder that was prepared before, for tests; nothing in it is replaced.
    paths = replace(configuration.data_paths, path_test=None)
    if left_out := len(images) - sum(map(len, split.values())):
        print(f"{left_out} image{'s' * (left_out != 1)} without truth left out")
    for line in (*_near_copies(images, split), *_replaced_split(configuration, split)):
        print(f"warning: {line}")
    by_name = {image.member.name: image for image in images}
    files = {part: _files(paths.hdf5(part), split[part]) for part in PARTS if split[part]}
    pictures = [paths.path_local / name for name in ("prepared.png", "preprocessing.png")]
    heights, widths = zip(*(image.shape[:2] for image in images), strict=True)
    channels = 3 if any(len(image.shape) == 3 for image in images) else 1
    largest = (max(heights), max(widths), channels)
    written = [file for three in files.values() for file in three if file]
    all_files = (*written, *pictures, paths.split)
    for folder in {file.parent for file in all_files}:
        remove_abandoned(folder, [file.name for file in all_files])
    with written_atomically(*all_files) as beside:
        temporary = dict(zip(written, beside, strict=False))
        for part, (original, truth, field_of_view) in files.items():
            members = progress(split[part], f"packing {part}")
            write_part(
                (temporary[original], truth and temporary[truth], temporary[field_of_view]),
                (by_name[member.name].read() for member in members),
                (len(split[part]), *largest),
            )
        _draw(configuration, by_name, split, beside[-3], beside[-2])
        write_split(beside[-1], split, how, configuration.texts["preparation"])
    for part in PARTS:  # remove files of an earlier preparation
        for file in set(paths.hdf5(part)) - set(written):
            file.unlink(missing_ok=True)
    return split


def _near_copies(images: Sequence[CheckedImage], split: Split) -> list[str]:
    """One line for each pair of near-copies of two patients, with the parts in which they are."""
    part_of = {m.name: part for part, members in split.items() for m in members}
    fingerprints = [
        Fingerprint(f"{image.file} ({part_of[m.name]})", m.patient, m.pixels, image.perceptual)
        for image in images
        if (m := image.member).name in part_of
    ]
    return [
        f"{line}; if they are one photograph, remove one, or give both the name of one patient"
        for line in near_copies(fingerprints)
    ]


def _replaced_split(configuration: Configuration, split: Split) -> list[str]:
    """One line if trained experiments depend on the present split of the folder, and `split` is another one.

    Only the experiments of `path_experiments` are known.
    """
    paths, experiments = configuration.data_paths, configuration.experiment_name.path_experiments
    before = _split_or_none(paths.split)
    if before is None or before == split:
        return []
    dependent = []
    for folder in sorted((*experiments.glob("*/"), *experiments.glob("*/*/"))):  # a plan has folders of runs
        experiment = Experiment(folder, folder.name)
        trained = any(experiment.weights(which).is_file() for which in ("best", "last"))
        if not trained or _split_or_none(folder / SPLIT) != before:
            continue
        try:
            used = read_configuration(experiment.configuration).data_paths.path_local
        except UserError:
            continue
        if os.path.realpath(used) == os.path.realpath(paths.path_local):
            dependent.append(experiment.name)
    if not dependent:
        return []
    return [
        f"the images or parts in {paths.path_local} change, on which experiments in {experiments} were "
        f"trained: {', '.join(dependent)}; they can no longer be continued, and a test would be on other "
        "images; to keep both, prepare into another folder: [data paths] path_local"
    ]


def _split_or_none(file: Path) -> Split | None:
    try:
        return read_split(file, "")
    except UserError:
        return None


def split_table(split: Split, structure: str) -> str:
    """Text table: images, patients and mean share of the structure in the field of view of each part."""
    lines = [f"{'part':<12}{'images':>8}{'patients':>10}{structure + ' in the field of view':>32}"]
    for part, members in split.items():
        shares = [m.truth_fraction for m in members if m.truth_fraction is not None]
        mean = f"{sum(shares) / len(shares):.1%}" if shares else "n/a"
        lines.append(f"{part:<12}{len(members):>8}{len({m.patient for m in members}):>10}{mean:>32}")
    negatives = sum(m.negative for m in split["train"])
    if negatives:
        lines.append(f"{negatives} of the images in train are negatives: without {structure}")
    return "\n".join(lines)


def read_mask_of(shape: tuple[int, ...], file: Path) -> np.ndarray:
    """Read the mask, uint8 (H, W) in {0, 1}, of an image whose shape begins with (H, W).

    Raises:
        UserError: the mask cannot be read, or has another size.
    """
    mask = read_mask(file)
    if mask.shape != shape[:2]:
        raise UserError(
            f"{file}: {mask.shape[1]}x{mask.shape[0]} pixels, its image "
            f"{shape[1]}x{shape[0]}: expected the same size"
        )
    return mask


def read_field_of_view_of(shape: tuple[int, ...], file: Path) -> np.ndarray:
    """Read the mask of a field of view: (H, W) uint8 in {0, 1}.

    Raises:
        UserError: as `read_mask_of`, or the mask is empty.
    """
    field_of_view = read_mask_of(shape, file)
    if not field_of_view.any():
        raise UserError(f"{file}: is empty; expected white inside the field of view")
    return field_of_view


def _files(files: tuple[Path, Path, Path], members: Sequence[Member]) -> tuple[Path, Path | None, Path]:
    has_truth = any(member.truth_fraction is not None for member in members)
    return files[0], files[1] if has_truth else None, files[2]


def _draw(
    configuration: Configuration, images: dict[str, CheckedImage], split: Split, sheet: Path, steps: Path
) -> None:
    structure = configuration.data_attributes.structure

    def entry(member: Member) -> ContactSheetEntry:
        image, share = images[member.name].read(), member.truth_fraction
        shown = "no truth" if share is None else f"{structure} {share:.1%}"
        shown = "negative" if member.negative else shown
        truth = np.zeros_like(image.field_of_view) if image.truth is None else image.truth
        return ContactSheetEntry(f"{member.name} · {shown}", image.original, truth, image.field_of_view)

    parts = {part: [partial(entry, m) for m in split[part]] for part in PARTS if split[part]}
    contact_sheet(sheet, parts, structure)
    first = next(iter(parts.values()))[0]()
    settings = configuration.preprocessing
    preprocessing_figure(steps, preprocessing_steps(first.image, first.field_of_view, settings))
