"""A folder of angiograms with LabelMe files or mask images, packed into HDF5.

FFA/1-1 _021.jpg   FFA/1-1 _021.json            the truth as LabelMe polygons, or
FFA/1-1 _021.jpg   FFA/masks/1-1 _021.png       as a mask image (also in a folder beside FFA)
                   FFA/field_of_view/1-1 ...    the field of view, where it is given
"""

import hashlib
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.reading import Configuration
from lib.configuration.sections import Preparation
from lib.datasets.packing import Source, duplicates, pack, same_size
from lib.datasets.patient_split import Member, Split
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.images.checked_files import file_sha256
from lib.images.dicom import has_burned_in_annotation
from lib.images.field_of_view import detect_field_of_view
from lib.images.info_banner import find_banner
from lib.images.labelme import rasterise, read_labelme
from lib.images.reading import IMAGE_SUFFIXES, read_image, read_mask
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress


@dataclass(frozen=True)
class Angiogram:
    """Files of one angiogram: the image, its truth (LabelMe JSON or mask image), its field of view."""

    image: Path
    truth: Path
    field_of_view: Path | None

    @property
    def name(self) -> str:
        """The image's file name without its ending."""
        return self.image.stem


@dataclass(frozen=True)
class Inspected:
    """An angiogram that was read and found good, and the banner to be cut off it."""

    source: Source
    banner: Banner | None

    @property
    def uncut(self) -> tuple[int, int]:
        """Height and width before the banner was cut off."""
        rows, columns = self.source.shape[:2]
        if self.banner is None:
            return rows, columns
        across = self.banner.side in {"left", "right"}
        return (rows, columns + self.banner.size) if across else (rows + self.banner.size, columns)


def prepare(configuration: Configuration) -> tuple[Split, dict[str, Banner]]:
    """Check every file of `path_images`, split by patient, write the nine HDF5 files and the pictures.

    Returns:
        The split, and the banner that was cut off each image that had one.

    Raises:
        UserError: lists all faults of the folder; nothing has been written.
    """
    inspected = inspect_folder(configuration.data_paths.path_images, configuration.preparation)
    split = pack(configuration, [i.source for i in inspected])
    return split, {i.source.member.name: i.banner for i in inspected if i.banner}


def find_angiograms(folder: Path) -> tuple[list[Angiogram], list[str]]:
    """Match images, truth and fields of view by name.

    Returns:
        The angiograms that are complete, and a line for each image without truth, truth or field of
        view without image, and name or truth found twice.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with --images or path_images")
    images = [f for f in _files(folder) if f.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    stems = {image.stem: image for image in images}
    faults = [f"two images are named {n}" for n, files in _by_stem(images).items() if files[1:]]
    faults += [
        f"{image.name!a}: its name is no UTF-8 text; rename it"
        for image in images
        if not _is_utf8(image.name)
    ]
    truths, unmatched = _labelme_truths(folder, images)
    masks, more = _beside(folder, "masks", stems)
    fields, still_more = _beside(folder, "field_of_view", stems)
    faults += unmatched + more + still_more
    for stem, mask in masks.items():
        if stems[stem] in truths:
            faults.append(f"{stem}: two truths, {truths[stems[stem]].name} and masks/{mask.name}")
        truths.setdefault(stems[stem], mask)
    faults += [
        f"{image.name}: no truth; expected {image.stem}.json or masks/{image.stem}.png"
        for image in images
        if image not in truths
    ]
    complete = [Angiogram(i, truths[i], fields.get(i.stem)) for i in images if i in truths]
    return complete, faults


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and not f.is_dir())


def _is_utf8(name: str) -> bool:
    """Whether the HDF5 files can hold a file's name."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _by_stem(files: list[Path]) -> dict[str, list[Path]]:
    grouped: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        grouped[file.stem].append(file)
    return grouped


def _labelme_truths(folder: Path, images: list[Path]) -> tuple[dict[Path, Path], list[str]]:
    """LabelMe files by their own name, else by their imagePath; and a line for each that fits nothing."""
    stems, names = {i.stem: i for i in images}, {i.name: i for i in images}
    truths: dict[Path, Path] = {}
    faults = []
    for file in _files(folder):
        if file.suffix.lower() != ".json" or file.name == "split.json":
            continue
        image = stems.get(file.stem)
        if image is None:
            try:
                image = names.get(read_labelme(file).image_path_name)
            except UserError as error:
                faults.append(str(error))
                continue
        if image is None:
            faults.append(f"{file.name}: truth without an image")
        elif image in truths:
            faults.append(f"{image.name}: two truths, {truths[image].name} and {file.name}")
        else:
            truths[image] = file
    return truths, faults


def _beside(folder: Path, name: str, stems: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Images of the folder `name` in `folder`, or else beside it, by stem; and a line for each misfit.

    A folder beside may serve other images too: what fits none of these is no fault there.
    """
    inside = _files(folder / name)
    files = [
        f for f in inside or _files(folder.parent / name) if f.suffix.lower() in IMAGE_SUFFIXES
    ]
    grouped = _by_stem(files)
    faults = [f"{name}: two files are named {s}" for s, same in grouped.items() if same[1:]]
    if inside:
        faults += [f"{name}/{f.name}: no image of that name" for f in files if f.stem not in stems]
    return {stem: same[0] for stem, same in grouped.items() if stem in stems}, faults


def inspect_folder(folder: Path, settings: Preparation) -> list[Inspected]:
    """Read every angiogram of the folder once.

    Raises:
        UserError: lists the faults of all files, duplicate images among them.
    """
    angiograms, faults = find_angiograms(folder)
    inspected = []
    for angiogram in progress(angiograms, "checking"):
        try:
            inspected.append(_inspect(angiogram, settings))
        except UserError as error:
            faults.append(str(error))
    faults += duplicates([one.source for one in inspected])
    faults += _banners_missed(inspected)
    raise_all(faults, f"{folder} has faults")
    return inspected


def _banners_missed(inspected: list[Inspected]) -> list[str]:
    """Images without a banner while others of their size have one: a name may have gone unseen."""
    found = {one.uncut: one.banner for one in inspected if one.banner}
    return [
        f"{one.source.file}: no information banner found, but in other images of "
        f"{one.uncut[1]}x{one.uncut[0]} pixels; set [preparation] info_banner = "
        f"{found[one.uncut].side}:{found[one.uncut].size}, or none"
        for one in inspected
        if one.banner is None and one.uncut in found
    ]


def _inspect(angiogram: Angiogram, settings: Preparation) -> Inspected:
    match = settings.patient_pattern.search(angiogram.name)
    patient = (match[1] or "").strip().casefold() if match else ""
    if not patient:
        raise UserError(
            f"{angiogram.image.name}: no patient in its name; "
            f"[preparation] patient_pattern = {settings.patient_pattern.pattern}"
        )
    prepared, banner = read_angiogram(angiogram, settings)
    inside = prepared.field_of_view > 0
    member = Member(
        angiogram.name,
        patient,
        file_sha256(angiogram.image),
        round(float(prepared.truth[inside].mean()), 6),
        hashlib.sha256(prepared.original.tobytes()).hexdigest(),
    )
    # Finding the field of view is most of the time that reading takes; kept in a kilobyte.
    found, (rows, columns) = zlib.compress(np.packbits(prepared.field_of_view)), inside.shape

    def read() -> PreparedImage:
        bits = np.frombuffer(zlib.decompress(found), np.uint8)
        field_of_view = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
        return read_angiogram(angiogram, settings, patient, field_of_view)[0]

    return Inspected(Source(member, angiogram.image.name, prepared.original.shape, read), banner)


def read_angiogram(
    angiogram: Angiogram,
    settings: Preparation,
    patient: str = "",
    field_of_view: np.ndarray | None = None,
) -> tuple[PreparedImage, Banner | None]:
    """Image, truth and field of view with the banner cut off all three, and that banner.

    Args:
        angiogram: its files.
        settings: labels, banner.
        patient: whose it is.
        field_of_view: as an earlier reading found it, without the banner; None looks for it.
    """
    image = read_image(angiogram.image)
    shape = image.shape[:2]
    if angiogram.truth.suffix.lower() == ".json":
        annotation = read_labelme(angiogram.truth)
        truth = rasterise(annotation, settings.labels, settings.ignore_labels, *shape)
    else:
        truth = same_size(read_mask(angiogram.truth), angiogram.truth, shape)
    banner = settings.info_banner
    if banner == "auto":
        banner = find_banner(image)
        if banner is None and has_burned_in_annotation(angiogram.image):
            raise UserError(
                f"{angiogram.image}: its header says that writing is burned into the picture, maybe the "
                "patient's name, and no banner was found; look at it, then set [preparation] "
                "info_banner = bottom:N (or top, left, right), or none"
            )
    if banner:
        image, truth = banner.cut(image), banner.cut(truth)
    if field_of_view is None:
        field_of_view = _field_of_view(angiogram, shape, banner, image)
    if not field_of_view.any():
        raise UserError(f"{angiogram.image.name}: its field of view is empty (a black image?)")
    return PreparedImage(angiogram.name, patient, image, truth, field_of_view), banner


def _field_of_view(
    angiogram: Angiogram, shape: tuple[int, int], banner: Banner | None, cut: np.ndarray
) -> np.ndarray:
    """The given one, of the whole picture's `shape`, without the banner; else as `cut` shows it."""
    given = angiogram.field_of_view
    if not given:
        return detect_field_of_view(cut)
    mask = same_size(read_mask(given), given, shape)
    return banner.cut(mask) if banner else mask
