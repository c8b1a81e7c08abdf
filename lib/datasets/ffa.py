"""Prepare a folder of angiograms with LabelMe files or mask images.

FFA/1-1 _021.jpg   FFA/1-1 _021.json            the truth as LabelMe polygons, or
FFA/1-1 _021.jpg   FFA/masks/1-1 _021.png       as a mask image (also in a folder beside FFA)
                   FFA/field_of_view/1-1 ...    the field of view (optional)

Further folders (path_negatives) may hold negatives: angiograms without non-perfusion, which need no truth.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.configuration.banner import Banner
from lib.configuration.reading import Configuration
from lib.configuration.sections import SPLIT, Preparation
from lib.datasets.leakage import different_bits, perceptual_hash
from lib.datasets.packing import (
    CheckedImage,
    checked_image,
    duplicates,
    pack,
    read_field_of_view_of,
    read_mask_of,
)
from lib.datasets.patient_split import comparable_name, differently_written, patient_of
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.datasets.split_file import Member, Split
from lib.images.field_of_view import detect_field_of_view
from lib.images.info_banner import banner_to_cut
from lib.images.labelme import Annotation, rasterise, read_labelme
from lib.images.reading import (
    IMAGE_SUFFIXES,
    composed,
    grey_if_equal,
    image_name,
    is_image_file,
    passed_over,
    read_image,
)
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress

BITS_OF_ANOTHER_IMAGE = 64
"""A picture is of another image if more bits of their perceptual hashes differ. Of the sixteen angiograms of
huapu4/FFA, the hashes of image and embedded picture differ in at most 4 bits, those of different images in
more than 100."""


@dataclass(frozen=True)
class Angiogram:
    """Files of one angiogram.

    Attributes:
        image: the image file.
        truth: LabelMe JSON or mask image; None for a negative without one.
        field_of_view: mask image, if there is one.
        negative: whether it is of a folder of negatives.
    """

    image: Path
    truth: Path | None
    field_of_view: Path | None
    negative: bool = False

    @property
    def name(self) -> str:
        """The image's file name without its extension; that of a negative starts with its folder's name."""
        name = image_name(self.image)
        return f"{self.image.parent.name} {name}" if self.negative else name


def prepare(configuration: Configuration) -> tuple[Split, dict[str, Banner]]:
    """Check every file, split by patient, write the nine HDF5 files and the pictures.

    The files are those of `path_images`, and of `path_negatives` for the training part. Prints the patients
    whose names are written in several ways.

    Returns:
        The split; and by name of image, the banner that was cut off.

    Raises:
        UserError: lists all faults of the folders; nothing is written then.
    """
    checked = _check_folders(configuration)
    paths = configuration.data_paths
    for folder in (paths.path_images, *paths.path_negatives):
        files = (f for f in folder.iterdir() if f.is_file() and f.suffix.lower() != ".json")
        if line := passed_over(files):
            print(f"{folder}: {line}")
        for line in _images_in_subfolders(folder):
            print(line)
    labelled = [image.member.name for image, _ in checked if not image.member.negative]
    for line in differently_written(labelled, configuration.preparation.patient_pattern):
        print(line)
    split = pack(configuration, [image for image, _ in checked])
    return split, {image.member.name: banner for image, banner in checked if banner}


def _images_in_subfolders(folder: Path) -> list[str]:
    """One line for each subfolder with images, which are not read; those of masks are."""
    read = ("masks", "field_of_view")
    subfolders = sorted(f for f in folder.iterdir() if f.is_dir() and f.name not in read)
    numbers = {subfolder: sum(map(is_image_file, _files(subfolder))) for subfolder in subfolders}
    return [
        f"{subfolder}: {number} image{'s' * (number != 1)} not read, because it is a subfolder"
        for subfolder, number in numbers.items()
        if number
    ]


def find_angiograms(folder: Path, *, negative: bool = False) -> tuple[list[Angiogram], list[str]]:
    """Match images, truth and fields of view by name; `negative`: the images need no truth.

    Returns:
        The complete angiograms; and one line for each image without truth, truth or field of view
        without image, and name or truth that occurs twice.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        key = "[data paths] path_negatives" if negative else "--images or path_images"
        raise UserError(f"{folder}: no such folder; name one with {key}")
    images = [f for f in _files(folder) if is_image_file(f)]
    if not images:
        raise UserError(f"{folder}: contains no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    stems = {image_name(image): image for image in images}
    names = Counter(map(image_name, images))
    faults = [f"two images are named {name}" for name, number in names.items() if number > 1]
    faults += [
        f"{image.name!a}: its name is not UTF-8 text; rename it"
        for image in images
        if any("\ud800" <= character <= "\udfff" for character in image.name)  # surrogates
    ]
    truths, unmatched = _labelme_truths(folder, images)
    masks, unmatched_masks = _masks_of_folder(folder, "masks", stems, beside=not negative)
    fields, unmatched_fields = _masks_of_folder(folder, "field_of_view", stems, beside=not negative)
    faults += unmatched + unmatched_masks + unmatched_fields
    for stem, mask in masks.items():
        if stems[stem] in truths:
            faults.append(f"{stem}: two truths, {truths[stems[stem]].name} and masks/{mask.name}")
        truths.setdefault(stems[stem], mask)
    faults += [
        f"{image.name}: no truth; expected {image_name(image)}.json or masks/{image_name(image)}.png"
        for image in images
        if image not in truths and not negative
    ]
    if not negative and any(image not in truths for image in images):
        faults += [
            f"{file.name}: XML of CVAT, Pascal VOC or the LabelMe web tool is not read; export masks from "
            f"that program (CVAT: Segmentation mask), one for each image, to {folder.name}/masks"
            for file in _files(folder)
            if file.suffix.lower() == ".xml"
        ]
    complete = [
        Angiogram(image, truths.get(image), fields.get(image_name(image)), negative)
        for image in images
        if image in truths or negative
    ]
    return complete, faults


def _find_negatives(folders: Sequence[Path]) -> tuple[list[Angiogram], list[str]]:
    """The angiograms of all folders of negatives, and one line for each fault."""
    negatives, faults = [], []
    for folder in folders:
        try:
            found, faults_here = find_angiograms(folder, negative=True)
        except UserError as error:
            faults.append(str(error))
            continue
        negatives += found
        faults += [f"{folder.name}/: {fault}" for fault in faults_here]
    return negatives, faults


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and not f.is_dir())


def _labelme_truths(folder: Path, images: list[Path]) -> tuple[dict[Path, Path], list[str]]:
    """LabelMe files, matched by file name, else by imagePath; and one line for each that is not matched."""
    stems, names = {composed(image_name(i)): i for i in images}, {composed(i.name): i for i in images}
    truths: dict[Path, Path] = {}
    faults = []
    for file in _files(folder):
        if file.suffix.lower() != ".json" or file.name == SPLIT:
            continue
        image = stems.get(composed(file.stem))
        if image is None:
            try:
                image = names.get(composed(read_labelme(file).image_path_name))
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


def _masks_of_folder(
    folder: Path, name: str, stems: dict[str, Path], *, beside: bool
) -> tuple[dict[str, Path], list[str]]:
    """Masks by stem in the folder `name`, which is in `folder` or else beside it; and lines of faults.

    Only in a folder inside is a mask without an image a fault: a folder beside may serve other images. With
    `beside` False it is not searched: beside a folder of negatives are the masks of the labelled images, some
    of which may have the same file names.
    """
    inside = _files(folder / name)
    found = inside or (_files(folder.parent / name) if beside else [])
    files = [f for f in found if is_image_file(f)]
    numbers = Counter(map(image_name, files))
    faults = [f"{name}: two files are named {s}" for s, number in numbers.items() if number > 1]
    if inside:
        faults += [f"{name}/{f.name}: no image of that name" for f in files if image_name(f) not in stems]
    return {image_name(file): file for file in files if image_name(file) in stems}, faults


def _check_folders(configuration: Configuration) -> list[tuple[CheckedImage, Banner | None]]:
    """Read every angiogram of the folders once, and return it with the banner that was cut off.

    Raises:
        UserError: lists the faults of all files, including duplicate images.
    """
    paths = configuration.data_paths
    angiograms, faults = find_angiograms(paths.path_images)
    negatives, faults_of_negatives = _find_negatives(paths.path_negatives)
    faults += faults_of_negatives
    checked = []
    for angiogram in progress(angiograms + negatives, "checking"):
        try:
            checked.append(_check(angiogram, configuration.preparation))
        except UserError as error:
            files = (angiogram.image, angiogram.truth, angiogram.field_of_view)
            is_named = any(file and file.name in str(error) for file in files)
            faults.append(str(error) if is_named else f"{angiogram.image}: {error}")
    images = [image for image, _ in checked]
    faults += duplicates(images) + _labelled_negatives([image.member for image in images])
    faults += _missed_banners(checked)
    folders = " or ".join(map(str, (paths.path_images, *paths.path_negatives)))
    raise_all(faults, f"{folders} has faults")
    return checked


def _labelled_negatives(members: Sequence[Member]) -> list[str]:
    """One line for each negative that has the name of another image, or the patient of one with truth."""
    names = Counter(m.name for m in members)
    patients = {m.patient for m in members if not m.negative}
    return [
        f"negative {m.name}, patient {m.patient}: another image has this name or patient; "
        "rename the folder of negatives"
        for m in members
        if m.negative and (names[m.name] > 1 or m.patient in patients)
    ]


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
    patient = _patient(angiogram, settings)
    prepared, banner = read_angiogram(angiogram, settings, patient)
    auxiliary = prepared.auxiliary
    if auxiliary is not None and not auxiliary.any() and prepared.truth is not None and prepared.truth.any():
        tqdm.write(
            f"warning: {angiogram.truth}: outlines {', '.join(settings.labels)}, but none of [preparation] "
            f"auxiliary_labels = {', '.join(settings.auxiliary_labels)}: the training takes it as absent"
        )
    if angiogram.negative and prepared.truth is not None and prepared.truth.any():
        raise UserError(
            f"{angiogram.truth}: outlines {', '.join(settings.labels)}, but {angiogram.image.parent} is a "
            "folder of negatives: delete the outlines, or move image and truth to path_images"
        )
    # Detecting the field of view takes most of the time: keep it, compressed to about a kilobyte.
    rows, columns = prepared.field_of_view.shape
    compressed = zlib.compress(np.packbits(prepared.field_of_view).tobytes())

    def read() -> PreparedImage:
        bits = np.frombuffer(zlib.decompress(compressed), np.uint8)
        field_of_view = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
        return read_angiogram(angiogram, settings, patient, field_of_view)[0]

    return checked_image(angiogram.image, prepared, read, negative=angiogram.negative), banner


def _patient(angiogram: Angiogram, settings: Preparation) -> str:
    """The patient id. Each negative is a patient: it is not split, and may be named by another pattern."""
    if angiogram.negative:
        return comparable_name(angiogram.name)
    patient = patient_of(angiogram.name, settings.patient_pattern)
    if not patient:
        raise UserError(
            f"{angiogram.image.name}: no patient in its name; "
            f"[preparation] patient_pattern = {settings.patient_pattern.pattern}"
        )
    return patient


def read_angiogram(
    angiogram: Angiogram, settings: Preparation, patient: str = "", field_of_view: np.ndarray | None = None
) -> tuple[PreparedImage, Banner | None]:
    """Read image, truth, auxiliary truth and field of view, and cut the banner off all of them.

    `field_of_view` is the one that an earlier call returned, without the banner; None reads or detects it.

    Returns:
        The image with its truth, and the banner that was cut off.

    Raises:
        UserError: a file cannot be read or does not fit, or text is burned into the image.
    """
    image = read_image(angiogram.image, settings.info_banner)
    shape = image.shape[:2]
    truth, auxiliary = _read_truth(angiogram, settings, image)
    banner = banner_to_cut(image, angiogram.image, settings.info_banner)
    if banner:
        image, truth = grey_if_equal(banner.cut(image)), banner.cut(truth)
        auxiliary = None if auxiliary is None else banner.cut(auxiliary)
    if field_of_view is None and angiogram.field_of_view:
        field_of_view = read_field_of_view_of(shape, angiogram.field_of_view)
        field_of_view = banner.cut(field_of_view) if banner else field_of_view
    elif field_of_view is None:
        field_of_view = detect_field_of_view(image, angiogram.image)
    prepared = PreparedImage(angiogram.name, patient, image, truth, field_of_view, auxiliary=auxiliary)
    return prepared, banner


def _read_truth(
    angiogram: Angiogram, settings: Preparation, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Truth and auxiliary truth (None without `auxiliary_labels`), uint8 (H, W); both empty for negatives.

    The auxiliary truth of a negative is empty even if its LabelMe file outlines such a region.
    """
    file, auxiliary_labels, shape = angiogram.truth, settings.auxiliary_labels, image.shape[:2]
    auxiliary = np.zeros(shape, np.uint8) if auxiliary_labels else None
    if file is None:
        return np.zeros(shape, np.uint8), auxiliary
    if file.suffix.lower() != ".json":
        if auxiliary_labels and not angiogram.negative:
            raise UserError(
                f"{file}: is a mask image without labels: expected a LabelMe file, because [preparation] "
                f"auxiliary_labels = {', '.join(auxiliary_labels)}; or leave auxiliary_labels empty"
            )
        return read_mask_of(shape, file), auxiliary
    annotation = read_labelme(file)
    _refuse_truth_of_another_image(annotation, angiogram.image, image)
    truth = rasterise(annotation, settings.labels, (*settings.ignore_labels, *auxiliary_labels), *shape)
    if auxiliary_labels and not angiogram.negative:
        others = (*settings.labels, *settings.ignore_labels)
        auxiliary = rasterise(annotation, auxiliary_labels, others, *shape)
    return truth, auxiliary


def _refuse_truth_of_another_image(annotation: Annotation, file: Path, image: np.ndarray) -> None:
    picture = annotation.embedded_picture()
    if picture is None:
        named = annotation.image_path_name
        if named != file.name and named in {beside.name for beside in _files(file.parent)}:
            raise UserError(
                f"{annotation.path}: is of the image {named} (imagePath), not of {file.name}; rename it, or "
                "correct imagePath"
            )
    elif picture.shape[:2] == image.shape[:2] and _is_another(picture, image):  # rasterise() refuses sizes
        raise UserError(
            f"{annotation.path}: was drawn on another image than {file.name}: its embedded picture "
            "(imageData) does not look like it; rename it, draw again, or, if the picture is an edited copy "
            "of this image, set imageData to null"
        )


def _is_another(picture: np.ndarray, image: np.ndarray) -> bool:
    bits = different_bits(perceptual_hash(image), perceptual_hash(picture))
    return bool(bits > BITS_OF_ANOTHER_IMAGE)
