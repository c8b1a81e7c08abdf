"""Prepare a folder of angiograms with LabelMe files or mask images.

FFA/1-1 _021.jpg   FFA/1-1 _021.json            the truth as LabelMe polygons, or
FFA/1-1 _021.jpg   FFA/masks/1-1 _021.png       as a mask image (also in a folder beside FFA)
                   FFA/field_of_view/1-1 ...    the field of view (optional)
"""

import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.reading import Configuration
from lib.configuration.sections import SPLIT, Preparation
from lib.datasets.packing import CheckedImage, checked_image, duplicates, pack, read_mask_of
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.datasets.split_file import Split
from lib.images.dicom import has_burned_in_annotation
from lib.images.field_of_view import detect_field_of_view
from lib.images.info_banner import find_banner
from lib.images.labelme import rasterise, read_labelme
from lib.images.reading import IMAGE_SUFFIXES, read_image
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress


@dataclass(frozen=True)
class Angiogram:
    """Files of one angiogram: image, truth (LabelMe JSON or mask image), field of view if there is one."""

    image: Path
    truth: Path
    field_of_view: Path | None

    @property
    def name(self) -> str:
        """The image's file name without its extension."""
        return self.image.stem


def prepare(configuration: Configuration) -> tuple[Split, dict[str, Banner]]:
    """Check every file of `path_images`, split by patient, write the nine HDF5 files and the pictures.

    Returns:
        The split; and by name of image, the banner that was cut off.

    Raises:
        UserError: lists all faults of the folder; nothing is written then.
    """
    checked = _check_folder(configuration.data_paths.path_images, configuration.preparation)
    split = pack(configuration, [image for image, _ in checked])
    return split, {image.member.name: banner for image, banner in checked if banner}


def find_angiograms(folder: Path) -> tuple[list[Angiogram], list[str]]:
    """Match images, truth and fields of view by name.

    Returns:
        The complete angiograms; and one line for each image without truth, truth or field of view
        without image, and name or truth that occurs twice.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with --images or path_images")
    images = [f for f in _files(folder) if f.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise UserError(f"{folder}: contains no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    stems = {image.stem: image for image in images}
    names = Counter(image.stem for image in images)
    faults = [f"two images are named {name}" for name, number in names.items() if number > 1]
    faults += [
        f"{image.name!a}: its name is not UTF-8 text; rename it"
        for image in images
        if any("\ud800" <= character <= "\udfff" for character in image.name)  # surrogates
    ]
    truths, unmatched = _labelme_truths(folder, images)
    masks, unmatched_masks = _masks_of_folder(folder, "masks", stems)
    fields, unmatched_fields = _masks_of_folder(folder, "field_of_view", stems)
    faults += unmatched + unmatched_masks + unmatched_fields
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


def _labelme_truths(folder: Path, images: list[Path]) -> tuple[dict[Path, Path], list[str]]:
    """LabelMe files, matched by file name, else by imagePath; and one line for each that is not matched."""
    stems, names = {i.stem: i for i in images}, {i.name: i for i in images}
    truths: dict[Path, Path] = {}
    faults = []
    for file in _files(folder):
        if file.suffix.lower() != ".json" or file.name == SPLIT:
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


def _masks_of_folder(folder: Path, name: str, stems: dict[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Masks by stem in the folder `name`, which is in `folder` or else beside it; and lines of faults.

    Only in a folder inside is a mask without an image a fault: a folder beside may serve other images.
    """
    inside = _files(folder / name)
    files = [f for f in inside or _files(folder.parent / name) if f.suffix.lower() in IMAGE_SUFFIXES]
    numbers = Counter(file.stem for file in files)
    faults = [f"{name}: two files are named {s}" for s, number in numbers.items() if number > 1]
    if inside:
        faults += [f"{name}/{f.name}: no image of that name" for f in files if f.stem not in stems]
    return {file.stem: file for file in files if file.stem in stems}, faults


def _check_folder(folder: Path, settings: Preparation) -> list[tuple[CheckedImage, Banner | None]]:
    """Read every angiogram of the folder once, and return it with the banner that was cut off.

    Raises:
        UserError: lists the faults of all files, including duplicate images.
    """
    angiograms, faults = find_angiograms(folder)
    checked = []
    for angiogram in progress(angiograms, "checking"):
        try:
            checked.append(_check(angiogram, settings))
        except UserError as error:
            faults.append(str(error))
    faults += duplicates([image for image, _ in checked])
    faults += _missed_banners(checked)
    raise_all(faults, f"{folder} has faults")
    return checked


def _missed_banners(checked: list[tuple[CheckedImage, Banner | None]]) -> list[str]:
    """One line for each image without a banner if others of its size have one: it may show a name."""
    found = {_original_size(image, banner): banner for image, banner in checked if banner}
    return [
        f"{image.file}: no information banner found, but in other images of "
        f"{image.shape[1]}x{image.shape[0]} pixels; set [preparation] info_banner = "
        f"{other.side}:{other.size}, or none"
        for image, banner in checked
        if banner is None and (other := found.get(_original_size(image, None)))
    ]


def _original_size(image: CheckedImage, banner: Banner | None) -> tuple[int, int]:
    """Height and width before the banner was cut off."""
    rows, columns = image.shape[:2]
    if banner is None:
        return rows, columns
    across = banner.side in {"left", "right"}
    return (rows, columns + banner.size) if across else (rows + banner.size, columns)


def _check(angiogram: Angiogram, settings: Preparation) -> tuple[CheckedImage, Banner | None]:
    match = settings.patient_pattern.search(angiogram.name)
    patient = (match[1] or "").strip().casefold() if match else ""
    if not patient:
        raise UserError(
            f"{angiogram.image.name}: no patient in its name; "
            f"[preparation] patient_pattern = {settings.patient_pattern.pattern}"
        )
    prepared, banner = read_angiogram(angiogram, settings, patient)
    # Detecting the field of view takes most of the time: keep it, compressed to about a kilobyte.
    rows, columns = prepared.field_of_view.shape
    compressed = zlib.compress(np.packbits(prepared.field_of_view).tobytes())

    def read() -> PreparedImage:
        bits = np.frombuffer(zlib.decompress(compressed), np.uint8)
        field_of_view = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
        return read_angiogram(angiogram, settings, patient, field_of_view)[0]

    return checked_image(angiogram.image, prepared, read), banner


def read_angiogram(
    angiogram: Angiogram, settings: Preparation, patient: str = "", field_of_view: np.ndarray | None = None
) -> tuple[PreparedImage, Banner | None]:
    """Read image, truth and field of view, and cut the banner off all three.

    `field_of_view` is the one that an earlier call returned, without the banner; None reads or detects it.

    Returns:
        The image with its truth, and the banner that was cut off.

    Raises:
        UserError: a file cannot be read or does not fit, or text is burned into the image.
    """
    image = read_image(angiogram.image)
    shape = image.shape[:2]
    if angiogram.truth.suffix.lower() == ".json":
        annotation = read_labelme(angiogram.truth)
        truth = rasterise(annotation, settings.labels, settings.ignore_labels, *shape)
    else:
        truth = read_mask_of(shape, angiogram.truth)
    banner = settings.info_banner
    if banner == "auto":
        banner = find_banner(image)
        if banner is None and has_burned_in_annotation(angiogram.image):
            raise UserError(
                f"{angiogram.image}: its header says that text is burned into the image, maybe the "
                "patient's name, and no banner was found; look at it, then set [preparation] "
                "info_banner = bottom:N (or top, left, right), or none"
            )
    if banner:
        image, truth = banner.cut(image), banner.cut(truth)
    if field_of_view is None and angiogram.field_of_view:
        field_of_view = read_mask_of(shape, angiogram.field_of_view)
        field_of_view = banner.cut(field_of_view) if banner else field_of_view
    elif field_of_view is None:
        field_of_view = detect_field_of_view(image)
    return PreparedImage(angiogram.name, patient, image, truth, field_of_view), banner
