"""DRIVE, STARE and CHASE_DB1 as their sites ship them: fundus photographs with vessels drawn by hand.

* DRIVE: Staal et al., IEEE Trans. Med. Imaging 23(4), 2004. 40 images, field of view given; the test
  half drawn by two observers. Today's download has no truth for the test half.
* STARE: Hoover, Kouznetsova, Goldbaum, IEEE Trans. Med. Imaging 19(3), 2000. 20 images, two observers
  (`ah`, `vk`), no field of view.
* CHASE_DB1: Fraz et al., IEEE Trans. Biomed. Eng. 59(9), 2012. Both eyes of 14 children, two
  observers, no field of view.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lib.configuration.reading import Configuration
from lib.datasets.packing import Source, duplicates, pack, same_size
from lib.datasets.patient_split import Member, Split
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.images.checked_files import file_sha256
from lib.images.field_of_view import detect_field_of_view
from lib.images.reading import read_image, read_mask
from lib.runtime.errors import UserError, raise_all
from lib.runtime.progress import progress

SPLITS = Path(__file__).parent / "vessel_splits"
"""Named splits: `<set>_<name>.json`, each with its source."""


@dataclass(frozen=True)
class VesselSet:
    """How a set's files are called; other files are named by the image's `{name}` and `{patient}`.

    Attributes:
        images: patterns of the image files, relative to the set's folder.
        patient: regular expression on an image's name; its first group is the patient.
        truth: first observer's masks, without the ending, relative to the image's folder.
        second_observer: likewise.
        field_of_view: likewise; detected where there is no such file.
        default_split: of `SPLITS`.
        configuration: of `configurations`, for those who name none.
        truth_may_be_missing: of a whole folder of images; these cannot be scored then.
    """

    images: tuple[str, ...]
    patient: str
    truth: str
    second_observer: str
    field_of_view: str
    default_split: str
    configuration: str
    truth_may_be_missing: str = ""


VESSEL_SETS = {
    "DRIVE": VesselSet(
        images=("training/images/*", "test/images/*"),
        patient=r"^(\d+)_",
        truth="../1st_manual/{patient}_manual1",
        second_observer="../2nd_manual/{patient}_manual2",
        field_of_view="../mask/{name}_mask",
        default_split="20_20",
        configuration="drive_retina_unet.txt",
        truth_may_be_missing="test",
    ),
    "STARE": VesselSet(
        images=("stare-images/*",),
        patient=r"^(im\d+)",
        truth="../labels-ah/{name}.ah",
        second_observer="../labels-vk/{name}.vk",
        field_of_view="../masks/{name}",
        default_split="15_5",
        configuration="stare_retina_unet.txt",
    ),
    "CHASE_DB1": VesselSet(
        images=("Image_[0-9][0-9][LR].jpg",),
        patient=r"^Image_(\d+)",
        truth="{name}_1stHO",
        second_observer="{name}_2ndHO",
        field_of_view="masks/{name}",
        default_split="20_8",
        configuration="chase_db1_retina_unet.txt",
    ),
}


@dataclass(frozen=True)
class Photograph:
    """Files of one image; what is None is not there."""

    image: Path
    name: str
    patient: str
    truth: Path | None
    second_observer: Path | None
    field_of_view: Path | None


def prepare(configuration: Configuration, set_name: str) -> Split:
    """Check every file of the set, write HDF5 files, pictures and split.json.

    Raises:
        UserError: lists all faults of the folder; nothing has been written.
    """
    folder = configuration.data_paths.path_images
    photographs, faults = find_photographs(folder, set_name)
    sources = []
    for photograph in progress(photographs, "checking"):
        try:
            sources.append(_inspect(photograph))
        except UserError as error:
            faults.append(str(error))
    faults += duplicates(sources)
    raise_all(faults, f"{folder} has faults")
    return pack(configuration, sources)


def named_split(set_name: str, name: str) -> Path:
    """The JSON file of a named split.

    Raises:
        UserError: lists the names there are.
    """
    file = SPLITS / f"{set_name}_{name}.json"
    if not file.is_file():
        known = sorted(f.stem.removeprefix(f"{set_name}_") for f in SPLITS.glob(f"{set_name}_*"))
        raise UserError(f"--split {name}: {set_name} has the splits {', '.join(known)}")
    return file


def find_photographs(folder: Path, set_name: str) -> tuple[list[Photograph], list[str]]:
    """The images of the set with what belongs to each, and a line for each truth that is missing.

    Patients are numbered from 1 in more than one set: the set's name is part of theirs.

    Raises:
        UserError: there is no such folder, or not an image where the set has its images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one with --images")
    files = VESSEL_SETS[set_name]
    photographs, faults = [], []
    for pattern in files.images:
        found = [
            _photograph(image, set_name, match[1])
            for image in sorted(folder.glob(pattern))
            if (match := re.search(files.patient, image.name))
        ]
        if not found:
            raise UserError(f"{folder}: holds no image {pattern}, as the set's site ships them")
        without = [p for p in found if p.truth is None]
        may_be_missing = files.truth_may_be_missing and files.truth_may_be_missing in pattern
        if without and not (may_be_missing and without == found):
            faults += [
                f"{p.image.relative_to(folder)}: no truth; expected "
                f"{files.truth.format(name=p.name, patient=p.patient.split()[-1])}.*"
                for p in without
            ]
        if any(p.second_observer for p in found):
            faults += [
                f"{p.image.relative_to(folder)}: no second observer, though others have one"
                for p in found
                if p.second_observer is None
            ]
        photographs += found
    return photographs, faults


def _photograph(image: Path, set_name: str, patient: str) -> Photograph:
    files, name = VESSEL_SETS[set_name], image.name.split(".")[0]

    def beside(template: str) -> Path | None:
        wanted = image.parent / template.format(name=name, patient=patient)
        return next(iter(sorted(wanted.parent.glob(f"{wanted.name}.*"))), None)

    return Photograph(
        image,
        name,
        f"{set_name} {patient}",
        beside(files.truth),
        beside(files.second_observer),
        beside(files.field_of_view),
    )


def _inspect(photograph: Photograph) -> Source:
    image = _read(photograph)
    inside = image.field_of_view > 0
    if not inside.any():
        raise UserError(f"{photograph.image}: its field of view is empty (a black image?)")
    member = Member(
        photograph.name,
        photograph.patient,
        file_sha256(photograph.image),
        None if image.truth is None else round(float(image.truth[inside].mean()), 6),
        hashlib.sha256(image.original.tobytes()).hexdigest(),
    )
    read = partial(_read, photograph)
    return Source(member, photograph.image.name, image.original.shape, read)


def _read(photograph: Photograph) -> PreparedImage:
    original = read_image(photograph.image)

    def mask(file: Path | None) -> np.ndarray | None:
        return None if file is None else same_size(read_mask(file), file, original.shape[:2])

    field_of_view = mask(photograph.field_of_view)
    return PreparedImage(
        photograph.name,
        photograph.patient,
        original,
        mask(photograph.truth),
        detect_field_of_view(original) if field_of_view is None else field_of_view,
        mask(photograph.second_observer),
    )
