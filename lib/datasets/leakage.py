"""Refuse data leakage: no test image, and no patient of one, may have been used for training."""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import SPLIT, by_validation
from lib.datasets.prepared_hdf5 import names_and_patients
from lib.datasets.split_file import Member, Split, read_split
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.runtime.errors import raise_all

PREPARED = "a folder of prepared images"
EXPERIMENT = "an experiment that was trained here"
INITIAL_WEIGHTS = (
    "[training settings] initial_weights in the folder of an experiment that was trained here: only then "
    "its training images are known"
)


def refuse_initial_weights(configuration: Configuration) -> None:
    """Refuse initial weights that were trained on a test image or its patient, directly or indirectly.

    Indirectly: their training itself started from such weights. Patient ids are compared only if the two
    splits share an image; otherwise the same id may be two persons.

    Raises:
        UserError: names the images; or the split on which the weights were trained is not known.
    """
    if configuration.training_settings.initial_weights == "none":
        return
    tested = read_split(configuration.data_paths.tested_split, PREPARED)
    for weights in chain_of_initial_weights(configuration):
        trained = read_split(weights.parent / SPLIT, INITIAL_WEIGHTS)
        raise_all(
            _test_images_seen(tested, trained),
            f"[training settings] initial_weights: {weights} was trained on test images",
        )


def chain_of_initial_weights(configuration: Configuration) -> Iterator[Path]:
    """The initial weights of a training, the initial weights of their training, and so on.

    The shipped network is the last one: its folder has no `<name>_configuration.txt`, and its split holds the
    images of all trainings before it.
    """
    weights, found = configuration.training_settings.initial_weights, set[Path]()
    while isinstance(weights, Path) and weights not in found:
        found.add(weights)
        yield weights
        stored = list(weights.parent.glob("*_configuration.txt"))
        if not stored:
            return
        weights = read_configuration(stored[0]).training_settings.initial_weights


def seen_images(experiment: Experiment, configuration: Configuration) -> frozenset[str]:
    """SHA-256 of the file and of the pixels of each image that the training of a network has used.

    These are the training and validation images, also those of its initial weights. Empty if the folder, or
    that of one of its initial weights, has no split: some networks were trained elsewhere, and a part of the
    images would look like all of them.
    """
    files = [
        experiment.split,
        *(weights.parent / SPLIT for weights in chain_of_initial_weights(configuration)),
    ]
    if not all(file.is_file() for file in files):
        return frozenset()
    return frozenset(
        value for file in files for value in _hashes(_used_for_training(read_split(file, EXPERIMENT)))
    )


def _test_images_seen(tested: Split, trained: Split) -> list[str]:
    """One line for each test image that training or validation images of another split share."""
    members = _used_for_training(trained)
    images = _hashes(members)
    patients = {m.patient for m in members}
    # Negatives, often a public collection, may be in the trainings of two data sets.
    labelled = [[m for m in chain(*split.values()) if not m.negative] for split in (tested, trained)]
    same_set = _hashes(labelled[0]) & _hashes(labelled[1])
    return [
        f"test image {m.name}, patient {m.patient}"
        for m in tested["test"]
        if images & _hashes([m]) or (same_set and m.patient in patients)
    ]


def _used_for_training(split: Split) -> list[Member]:
    return [m for part in ("train", "validation") for m in split.get(part, [])]


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
    checked, faults = [], []
    if validation and by_validation(configuration.testing_settings):
        checked.append(("validation", "train"))
    if files.path_test:
        faults += _trained_images_of_another_set(files.path_test, split)
    else:
        checked += [("test", "train"), ("test", "validation")]
    faults += [
        f"{part} image {name}, patient {patient}: in the {other} part of the training"
        for part, other in checked
        for name, patient in _shared_images(files.hdf5(part), split[other])
    ]
    raise_all(faults, f"{experiment.name} was trained on images on which it is to be tested")


def validation_images_used_for_training(experiment: Experiment, configuration: Configuration) -> list[str]:
    """Names of the validation images on which the experiment's network was trained."""
    split = read_split(experiment.split, EXPERIMENT)
    trained = split["train"]
    settings = read_configuration(experiment.configuration).training_settings
    if settings.validation == "patches":  # then training uses most validation images too
        trained = trained + split["validation"]
    files = configuration.data_paths.hdf5("validation")
    return [name for name, _ in _shared_images(files, trained)]


def _shared_images(files: tuple[Path, Path, Path], members: Collection[Member]) -> list[tuple[str, str]]:
    """Name and patient of each prepared image that is one of `members`, or has the same patient."""
    names, patients = {m.name for m in members}, {m.patient for m in members}
    return [(name, p) for name, p in names_and_patients(files) if name in names or p in patients]


def _trained_images_of_another_set(folder: Path, split: Split) -> list[str]:
    """Compare pixels: in another data set, the same name or patient id may be another person.

    Patient ids of the public data sets start with the name of the set; they are compared too.
    """
    tested = read_split(folder / SPLIT, PREPARED)["test"]
    faults = []
    for part in ("train", "validation"):
        images = _hashes(split[part])
        patients = {m.patient for m in split[part] if m.patient.startswith(tuple(VESSEL_SETS))}
        faults += [
            f"test image {m.name}, patient {m.patient}: in the {part} part of the training"
            for m in tested
            if images & _hashes([m]) or m.patient in patients
        ]
    return faults
