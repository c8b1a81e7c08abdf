"""Refuse data leakage: no test image, and no patient of one, may have been used for training."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import SPLIT, by_validation
from lib.datasets.patient_split import comparable_name
from lib.datasets.prepared_hdf5 import read_originals
from lib.datasets.split_file import Member, Split, read_split, union_of_splits, write_split
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.images.checked_files import file_sha256
from lib.runtime.errors import UserError, raise_all

HASH_SIDE = 16
"""Rows and columns of differences in a perceptual hash, of 2 * 16 * 16 = 512 bits."""

MOST_DIFFERENT_BITS = 32
"""Near-copies differ in at most so many bits. Of 114 angiograms and fundus photographs (FFA, DRIVE, STARE,
CHASE_DB1; 2026-11-26), copies of 40 % JPEG quality or of another size differed in at most 25 bits, and
different images in at least 42."""

PREPARED = "a folder of prepared images"
EXPERIMENT = "an experiment that was trained here"
INITIAL_WEIGHTS = (
    "[training settings] initial_weights in the folder of an experiment that was trained here: only then "
    "its training images are known"
)


INITIAL_WEIGHTS_SHA256 = "initial_weights_sha256"
"""Key of the record of a training."""


def refuse_initial_weights(
    configuration: Configuration, trained: Experiment | None = None, *, validation: bool = False
) -> None:
    """Refuse initial weights that were trained on a test image or its patient, directly or indirectly.

    Indirectly: their training itself started from such weights. Patient ids are compared only if the two
    splits share an image; otherwise the same id may be two persons. With `validation`, the training part of
    the weights is also compared with the validation part, which chooses the epoch, threshold or area.
    `trained` is the experiment that began with the weights, if it is trained already.

    Raises:
        UserError: names the images; or the split on which the weights were trained is not known.
    """
    if configuration.training_settings.initial_weights == "none":
        return
    paths = configuration.data_paths
    tested = read_split(paths.tested_split, PREPARED)
    for weights, file in splits_of_initial_weights(configuration, trained):
        split = _split_of_training(file)
        faults = _images_seen(tested, "test", split, _used_for_training(split))
        if validation:
            faults += _images_seen(read_split(paths.split, PREPARED), "validation", split, split["train"])
        raise_all(
            faults,
            f"[training settings] initial_weights: {weights} was trained on test or validation images; "
            "prepare with a split that has them in the training part",
        )


def refuse_images_seen(file: Path, seen: frozenset[str], configuration: Configuration) -> str:
    """Refuse a test of an exported network on images, or patients, that it was trained on.

    Images are compared by SHA-256. Patients are compared with the splits of the training, and of its initial
    weights, if they are in the folder of the file.

    Args:
        file: the ONNX file.
        seen: SHA-256 of its training images, as of `seen_images`; empty if they are not known.
        configuration: the test images.

    Returns:
        What was compared, for the report of the test.

    Raises:
        UserError: names the test images.
    """
    paths = configuration.data_paths
    tested = read_split(paths.tested_split, PREPARED)
    packed = {image.name for image in _fingerprints(paths.hdf5("test")[0]) if image.pixels in seen}
    faults = {
        f"test image {m.name}, patient {m.patient}"
        for m in tested["test"]
        if m.name in packed or _hashes([m]) & seen
    }
    splits = [split for split in _splits_beside(file) if _hashes(_used_for_training(split)) <= seen]
    for split in splits:
        faults |= set(_images_seen(tested, "test", split, _used_for_training(split)))
    patients_compared = any(_are_of_one_set(tested, split) for split in splits)
    raise_all(
        sorted(faults),
        f"{file} was trained on test images or their patients; test other images, or another network",
    )
    if not seen:
        return "NOT known"
    return "known; no test image is one of them" + "; nor is a test patient" * patients_compared


def _splits_beside(file: Path) -> list[Split]:
    """The split in the folder of an exported network, and those of the initial weights of its training."""
    files = [file.with_name(SPLIT)]
    stored = file.with_name(f"{file.stem}_configuration.txt")
    if stored.is_file():
        exported = Experiment(file.parent, file.stem)
        files += [split for _, split in splits_of_initial_weights(read_configuration(stored), exported)]
    return [read_split(split, "the split of a training") for split in files if split.is_file()]


def initial_weights_sha256(configuration: Configuration) -> str | None:
    """SHA-256 of the file of initial weights; None if there is no such file, or none is set."""
    weights = configuration.training_settings.initial_weights
    return file_sha256(weights) if isinstance(weights, Path) and weights.is_file() else None


def refuse_other_initial_weights(experiment: Experiment, configuration: Configuration) -> None:
    """Refuse to go on with an experiment if the file of its initial weights has other content now.

    Another file is not compared: `refuse_other_settings` names it.

    Raises:
        UserError: names the experiment and the file.
    """
    weights = configuration.training_settings.initial_weights
    if read_configuration(experiment.configuration).training_settings.initial_weights != weights:
        return
    recorded = experiment.training_record().get(INITIAL_WEIGHTS_SHA256)
    if recorded and initial_weights_sha256(configuration) not in (None, recorded):
        raise UserError(
            f"{experiment.folder} began with other weights than {weights} holds now: delete this "
            "folder, so that it is trained again, or restore the weights"
        )


def keep_initial_split(experiment: Experiment, configuration: Configuration) -> None:
    """Write what the initial weights have seen: their folder may hold another training later."""
    files = [file for _, file in splits_of_initial_weights(configuration)]
    if files:
        seen = union_of_splits([_split_of_training(file) for file in files])
        write_split(experiment.initial_split, seen, "union of the splits of the initial weights")


def splits_of_initial_weights(
    configuration: Configuration, trained: Experiment | None = None
) -> Iterator[tuple[Path, Path]]:
    """The initial weights of a training, those of their training, and so on, each with its split file.

    The shipped network is the last one: its folder has no `<name>_configuration.txt`, and its split holds the
    images of all trainings before it. So does the file that `keep_initial_split` has written for `trained`.
    """
    weights, found = configuration.training_settings.initial_weights, set[Path]()
    kept = trained and trained.initial_split
    while isinstance(weights, Path) and weights not in found:
        if kept and kept.is_file():
            yield weights, kept
            return
        found.add(weights)
        yield weights, weights.parent / SPLIT
        stored = list(weights.parent.glob("*_configuration.txt"))
        if not stored:
            return
        kept = next(weights.parent.glob("*_initial_split.json"), None)
        weights = read_configuration(stored[0]).training_settings.initial_weights


def _split_of_training(file: Path) -> Split:
    """The split in the folder of initial weights; its part "train" holds all images that have trained.

    With `validation = patches`, most images of the validation part train.

    Raises:
        UserError: as `read_split`.
    """
    split = read_split(file, INITIAL_WEIGHTS)
    stored = next(file.parent.glob("*_configuration.txt"), None) if file.name == SPLIT else None
    if stored and read_configuration(stored).training_settings.validation == "patches":
        return {**split, "train": _used_for_training(split), "validation": []}
    return split


def seen_images(experiment: Experiment, configuration: Configuration) -> frozenset[str]:
    """SHA-256 of the file and of the pixels of each image that the training of a network has used.

    These are the training and validation images, also those of its initial weights. Empty if the folder, or
    that of one of its initial weights, has no split: some networks were trained elsewhere, and a part of the
    images would look like all of them.
    """
    before = [file for _, file in splits_of_initial_weights(configuration, experiment)]
    files = [experiment.split, *before]
    if not all(file.is_file() for file in files):
        return frozenset()
    return frozenset(
        value for file in files for value in _hashes(_used_for_training(read_split(file, EXPERIMENT)))
    )


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is compared of an image: `pixels` of `Member`, and its perceptual hash, uint8 (64,)."""

    name: str
    patient: str
    pixels: str
    perceptual: np.ndarray


def pixels_sha256(original: np.ndarray) -> str:
    """SHA-256 of the pixels, (H, W) or (H, W, 3) uint8, in hexadecimal: `pixels` of `Member`."""
    return hashlib.sha256(original.tobytes()).hexdigest()


def perceptual_hash(original: np.ndarray) -> np.ndarray:
    """Signs of the differences of neighbours in a small copy (dHash), in rows and in columns: uint8 (64,).

    It hardly changes with the size or the compression of the image. N. Krawetz, "Kind of like that",
    hackerfactor.com, 2013.

    Args:
        original: (H, W) or (H, W, 3) RGB, uint8.
    """
    grey = original if original.ndim == 2 else cv2.cvtColor(original, cv2.COLOR_RGB2GRAY)
    n = HASH_SIDE
    rows, columns = (
        cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.int16)
        for size in ((n + 1, n), (n, n + 1))
    )
    return np.packbits([np.diff(rows, axis=1) > 0, np.diff(columns, axis=0).T > 0])


def different_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number of bits in which perceptual hashes (..., 64) differ: (...) int64."""
    return np.bitwise_count(first ^ second).sum(axis=-1, dtype=np.int64)


def near_copies(images: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None) -> list[str]:
    """One line for each pair of near-copies among images, or of an image and one of others.

    Among `images`, pairs of one patient are left out: they are in one part, and may be successive frames.
    Identical pixels are left out: they are refused elsewhere.
    """
    against = images if others is None else others
    if not images or not against:
        return []
    hashes = np.stack([other.perceptual for other in against])
    found = []
    for number, image in enumerate(images):
        bits = different_bits(hashes, image.perceptual)
        for index in np.flatnonzero(bits <= MOST_DIFFERENT_BITS).tolist():
            other = against[index]
            if others is None and index <= number:
                continue
            one_patient = others is None and image.patient == other.patient
            if not one_patient and image.pixels != other.pixels:
                found.append(
                    f"{image.name}, patient {image.patient}, and {other.name}, patient {other.patient}, look "
                    f"alike ({bits[index]} of {8 * hashes.shape[1]} bits of their hashes differ)"
                )
    return found


def _images_seen(checked: Split, part: str, trained: Split, members: Sequence[Member]) -> list[str]:
    """One line for each image of a part that is one of `members` of another split, or of their patients."""
    seen = _members_seen(checked, part, trained, members)
    return [f"{part} image {m.name}, patient {m.patient}" for m in seen]


def _members_seen(checked: Split, part: str, trained: Split, members: Sequence[Member]) -> list[Member]:
    """The images of a part that are one of `members` of another split, or of their patients."""
    images = _hashes(members)
    patients = _patients(members)
    same_set = _are_of_one_set(checked, trained)
    return [
        m
        for m in checked[part]
        if images & _hashes([m]) or (same_set and comparable_name(m.patient) in patients)
    ]


def _are_of_one_set(first: Split, second: Split) -> bool:
    """Whether two splits share an image; otherwise the same patient id may be two persons."""
    # Negatives, often a public collection, may be in the trainings of two data sets.
    labelled = [[m for m in chain(*split.values()) if not m.negative] for split in (first, second)]
    return bool(_hashes(labelled[0]) & _hashes(labelled[1]))


def _used_for_training(split: Split) -> list[Member]:
    return [m for part in ("train", "validation") for m in split.get(part, [])]


def _patients(members: Iterable[Member]) -> set[str]:
    """Comparable names of the patients; splits of earlier versions have them as they were written."""
    return {comparable_name(m.patient) for m in members}


def _hashes(members: Iterable[Member]) -> set[str]:
    """SHA-256 of files and pixels: they identify an image whatever its name is."""
    return {value for m in members for value in (m.sha256, m.pixels) if value}


def refuse_trained_images(experiment: Experiment, configuration: Configuration, *, validation: bool) -> None:
    """Refuse a test on images, or patients, that were used for training or validation.

    With `validation`, the validation images must not be training images if they choose the threshold.

    Raises:
        UserError: names the images.
    """
    split = read_split(experiment.split, EXPERIMENT)
    files = configuration.data_paths
    tested = _fingerprints(files.hdf5("test")[0])
    checked, faults = [], []
    if validation and by_validation(configuration.testing_settings):
        checked.append(("validation", _fingerprints(files.hdf5("validation")[0]), "train"))
    if files.path_test:
        faults += _trained_images_of_another_set(files.path_test, split, tested)
        _warn_of_near_copies(tested, configuration)
    else:
        checked += [("test", tested, other) for other in ("train", "validation")]
    faults += [
        f"{part} image {image.name}, patient {image.patient}: in the {other} part of the training"
        for part, images, other in checked
        for image in _shared_images(images, split[other])
    ]
    raise_all(faults, f"{experiment.name} was trained on images on which it is to be tested")


def _fingerprints(file: Path) -> list[Fingerprint]:
    """The fingerprint of each image in a prepared file of images."""
    return [
        Fingerprint(name, patient, pixels_sha256(original), perceptual_hash(original))
        for name, patient, original in read_originals(file)
    ]


def _warn_of_near_copies(tested: Sequence[Fingerprint], configuration: Configuration) -> None:
    """Print the pairs of near-copies of a test image of another set and an image of the prepared data."""
    for part in ("train", "validation"):
        file = configuration.data_paths.hdf5(part)[0]
        if file.is_file():
            for line in near_copies(tested, _fingerprints(file)):
                print(f"warning: test image {line}; the second is in the {part} part of {file.parent}")


def validation_images_used_for_training(experiment: Experiment, configuration: Configuration) -> list[str]:
    """Names of the validation images on which the network, or its initial weights, were trained."""
    split = read_split(experiment.split, EXPERIMENT)
    trained = split["train"]
    stored = read_configuration(experiment.configuration)
    if stored.training_settings.validation == "patches":  # then training uses most validation images too
        trained = trained + split["validation"]
    images = _fingerprints(configuration.data_paths.hdf5("validation")[0])
    used = {image.name for image in _shared_images(images, trained)}
    for _, file in splits_of_initial_weights(stored, experiment):
        before, prepared = _split_of_training(file), configuration.data_paths.split
        seen = _members_seen(read_split(prepared, PREPARED), "validation", before, before["train"])
        used |= {member.name for member in seen}
    return [image.name for image in images if image.name in used]


def _shared_images(images: Iterable[Fingerprint], members: Collection[Member]) -> list[Fingerprint]:
    """The images that are one of `members`, by name, patient or pixels."""
    names, pixels = {m.name for m in members}, {m.pixels for m in members}
    patients = _patients(members)
    return [
        i for i in images if i.name in names or comparable_name(i.patient) in patients or i.pixels in pixels
    ]


def _trained_images_of_another_set(folder: Path, split: Split, images: Sequence[Fingerprint]) -> list[str]:
    """Compare content: in another data set, the same name or patient id may be another person.

    Compared are the images of its HDF5 file and those that its split lists. Patient ids are compared if the
    two splits share an image, and those of the public data sets, which start with the name of the set.
    """
    tested = read_split(folder / SPLIT, PREPARED)
    same_set = _are_of_one_set(tested, split)
    hashes = [(m.name, m.patient, _hashes([m])) for m in tested["test"]]
    faults = []
    for part in ("train", "validation"):
        seen = _hashes(split[part])
        patients = _patients(m for m in split[part] if same_set or m.patient.startswith(tuple(VESSEL_SETS)))
        packed = {image.name: image.patient for image in images if image.pixels in seen}
        found = {
            name: patient
            for name, patient, own in hashes
            if seen & own or comparable_name(patient) in patients
        }
        faults += [
            f"test image {name}, patient {patient}: in the {part} part of the training"
            for name, patient in (found | packed).items()
        ]
    return faults
