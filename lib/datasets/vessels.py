"""Prepare the data sets of `vessel_sets.py`: fundus photographs with vessels as truth."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lib.configuration.banner import Banner
from lib.configuration.reading import Configuration
from lib.datasets.packing import checked_image, duplicates, pack, read_field_of_view_of, read_mask_of
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.datasets.split_file import Split
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.images.field_of_view import detect_field_of_view
from lib.images.reading import is_image_file, read_image
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress

SPLITS = Path(__file__).parent / "vessel_splits"
"""Folder of named splits: `<set>_<name>.json`, each with its source."""


@dataclass(frozen=True)
class Photograph:
    """Files of one image; None if a file does not exist."""

    image: Path
    name: str
    patient: str
    truth: Path | None
    second_observer: Path | None
    field_of_view: Path | None


def prepare(configuration: Configuration, set_name: str) -> Split:
    """Check every file of the set, write HDF5 files, pictures and split.json.

    Raises:
        UserError: lists all faults of the folder; nothing is written then.
    """
    _refuse_settings_of_angiograms(configuration)
    folder = configuration.data_paths.path_images
    photographs, faults = find_photographs(folder, set_name)
    if all(photograph.field_of_view is None for photograph in photographs):
        print("fields of view: no files of masks, detected in the images")
    images = []
    for photograph in progress(photographs, "checking"):
        try:
            read = partial(read_photograph, photograph)
            images.append(checked_image(photograph.image, read(), read))
        except UserError as error:
            faults.append(str(error))
    faults += duplicates(images)
    raise_all(faults, f"{folder} has faults")
    return pack(configuration, images)


def named_split(set_name: str, name: str) -> Path:
    """The JSON file of a named split.

    Raises:
        UserError: there is no such split; lists those that exist.
    """
    file = SPLITS / f"{set_name}_{name}.json"
    if not file.is_file():
        known = sorted(f.stem.removeprefix(f"{set_name}_") for f in SPLITS.glob(f"{set_name}_*"))
        raise UserError(f"--split {name}: {set_name} has the splits {', '.join(known)}")
    return file


def _refuse_settings_of_angiograms(configuration: Configuration) -> None:
    keys = [("data paths", "path_negatives"), ("preparation", "auxiliary_labels")]
    if isinstance(configuration.preparation.info_banner, Banner):
        keys.append(("preparation", "info_banner"))
    for section, key in keys:
        if value := configuration.texts[section][key]:
            raise UserError(
                f"[{section}] {key} = {value}: expected nothing, since prepare_datasets_vessels.py does not "
                "use it"
            )


def find_photographs(folder: Path, set_name: str) -> tuple[list[Photograph], list[str]]:
    """The files of each image, and one line for each file of an image that is missing or occurs twice.

    More than one set numbers its patients from 1: a patient id starts with the name of the set.

    Raises:
        UserError: there is no such folder, or it has no image where the set has its images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with --images")
    files = VESSEL_SETS[set_name]
    photographs, faults = [], []
    for pattern in files.images:
        found = []
        for image in filter(_is_image, sorted(folder.glob(pattern))):
            if match := re.search(files.patient, image.name):
                try:
                    found.append(_photograph(image, set_name, match[1]))
                except UserError as error:
                    faults.append(str(error))
        if not (found or faults):
            raise UserError(f"{folder}: contains no image {pattern}, as in the download of {set_name}")
        without = [p for p in found if p.truth is None]
        may_be_missing = files.truth_may_be_missing and files.truth_may_be_missing in pattern
        if without and not (may_be_missing and without == found):
            faults += [
                f"{p.image.relative_to(folder)}: no truth; expected "
                f"{files.truth.format(name=p.name, patient=p.patient.split()[-1])}.*"
                for p in without
            ]
        for missing, title in (("second_observer", "second observer"), ("field_of_view", "field of view")):
            without = [p for p in found if getattr(p, missing) is None]
            if without != found:
                faults += [
                    f"{p.image.relative_to(folder)}: no {title}, though others have one" for p in without
                ]
        photographs += found
    files_of: dict[str, list[str]] = defaultdict(list)
    for photograph in photographs:
        files_of[photograph.name].append(str(photograph.image.relative_to(folder)))
    faults += [
        f"{' and '.join(names)} have the same name; remove all but one"
        for names in files_of.values()
        if len(names) > 1
    ]
    return photographs, faults


def _photograph(image: Path, set_name: str, patient: str) -> Photograph:
    files, name = VESSEL_SETS[set_name], image.name.split(".")[0]

    def beside(template: str) -> Path | None:
        wanted = image.parent / template.format(name=name, patient=patient)
        found = sorted(filter(_is_image, wanted.parent.glob(f"{wanted.name}.*")))
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1].name}: two masks of {image.name}; remove one")
        return found[0] if found else None

    masks = map(beside, (files.truth, files.second_observer, files.field_of_view))
    return Photograph(image, name, f"{set_name} {files.same_patient.get(patient, patient)}", *masks)


def _is_image(file: Path) -> bool:
    return is_image_file(file) or (file.suffix == ".gz" and not file.name.startswith("."))


def read_photograph(photograph: Photograph) -> PreparedImage:
    """Read image, masks and field of view, which is detected if it has no file.

    Raises:
        UserError: a file cannot be read, masks have another size than the image, or that of the field of view
            is empty.
    """
    original = read_image(photograph.image, banner=None)

    def mask(file: Path | None) -> np.ndarray | None:
        return None if file is None else read_mask_of(original.shape, file)

    if photograph.field_of_view:
        field_of_view = read_field_of_view_of(original.shape, photograph.field_of_view)
    else:
        field_of_view = detect_field_of_view(original, photograph.image)
    truth, second_observer = mask(photograph.truth), mask(photograph.second_observer)
    return PreparedImage(photograph.name, photograph.patient, original, truth, field_of_view, second_observer)
