"""What a network has learnt from: nothing of it, nor of the same patients, may be tested."""

import json
from collections.abc import Sequence
from pathlib import Path

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import by_validation
from lib.datasets.prepared_hdf5 import members_of
from lib.datasets.vessels import VESSEL_SETS
from lib.runtime.errors import UserError, raise_all

IDENTITY = ("sha256", "pixels")
"""By which two images are the same, whatever they are called."""

PREPARED = "a folder of prepared images"
TRAINED_HERE = (
    "[training settings] initial_weights in the folder of an experiment that was trained here, so that "
    "it is known which images they learnt from"
)


def refuse_initial_weights(configuration: Configuration) -> None:
    """Refuse initial weights, and those that they began with, which have seen a test image or its patient.

    Patients are compared by name where the two splits share an image; else one name is two people.

    Raises:
        UserError: names the images; or the split that the weights were trained on is not known.
    """
    weights = configuration.training_settings.initial_weights
    if weights == "none":
        return
    paths = configuration.data_paths
    tested = _parts((paths.path_test or paths.path_local) / "split.json", PREPARED)
    known: set[Path] = set()
    while weights != "none" and weights not in known:
        known.add(weights)
        learnt = _parts(weights.parent / "split.json", TRAINED_HERE)
        raise_all(
            _seen(tested, learnt),
            f"[training settings] initial_weights: {weights} has seen what is to be tested",
        )
        stored = list(weights.parent.glob("*_configuration.txt"))
        weights = (
            read_configuration(stored[0]).training_settings.initial_weights if stored else "none"
        )


def refuse_trained_images(
    experiment: Experiment, configuration: Configuration, *, validation: bool
) -> None:
    """Stop before anything is predicted if a test image, or its patient, was learnt or chosen from.

    With `validation` the validation images must not have been trained on either, if they choose the
    threshold.
    """
    parts = _parts(experiment.split, "an experiment that was trained here")
    files = configuration.data_paths
    checked, faults = [], []
    if validation and by_validation(configuration.testing_settings):
        checked.append(("validation", "train"))
    if files.path_test:
        faults += _trained_images_of_another_set(files.path_test, parts)
    else:
        checked += [("test", "train"), ("test", "validation")]
    faults += [
        f"{part} image {name}, patient {patient}: in the {other} part of the training"
        for part, other in checked
        for name, patient in _known(files.hdf5(part), parts[other])
    ]
    raise_all(faults, f"{experiment.name} has been trained on images that it is to be tested on")


def validation_images_used_for_training(
    experiment: Experiment, configuration: Configuration
) -> list[str]:
    """Names of the validation images that the experiment's network was trained on."""
    parts = _parts(experiment.split, "an experiment that was trained here")
    learnt = parts["train"]
    trained = read_configuration(experiment.configuration)
    if trained.training_settings.validation == "patches":  # then most validation images train too
        learnt = learnt + parts["validation"]
    files = configuration.data_paths.hdf5("validation")
    return [name for name, _ in _known(files, learnt)]


def _parts(split: Path, expected: str) -> dict[str, list[dict]]:
    """The members of each part of a split that was kept."""
    if not split.is_file():
        raise UserError(f"{split}: no such file; expected {expected}")
    return json.loads(split.read_text(encoding="utf-8"))["parts"]


def _seen(tested: dict[str, list[dict]], learnt: dict[str, list[dict]]) -> list[str]:
    members = [m for part in ("train", "validation") for m in learnt.get(part, [])]
    images = _identities(members)
    patients = {m["patient"] for m in members}
    same_set = _identities(_all(tested)) & _identities(_all(learnt))
    return [
        f"test image {m['name']}, patient {m['patient']}"
        for m in tested["test"]
        if images & _identities([m]) or (same_set and m["patient"] in patients)
    ]


def _all(parts: dict[str, list[dict]]) -> list[dict]:
    return [member for members in parts.values() for member in members]


def _identities(members: list[dict]) -> set[str]:
    return {member[key] for member in members for key in IDENTITY if key in member}


def _known(files: tuple[Path, Path, Path], part: Sequence[dict]) -> list[tuple[str, str]]:
    """Name and patient of each packed image that is in `part`, or whose patient is."""
    names = {member["name"] for member in part}
    patients = {member["patient"] for member in part}
    return [
        (name, patient)
        for name, patient in members_of(files)
        if name in names or patient in patients
    ]


def _trained_images_of_another_set(folder: Path, parts: dict[str, list[dict]]) -> list[str]:
    """By their pixels: in another set the same name, or number of a patient, is somebody else.

    Patients of public sets carry the set's name and are compared too.
    """
    tested = _parts(folder / "split.json", PREPARED)["test"]
    faults = []
    for part in ("train", "validation"):
        known = _identities(parts[part])
        patients = {
            m["patient"] for m in parts[part] if m["patient"].startswith(tuple(VESSEL_SETS))
        }
        faults += [
            f"test image {m['name']}, patient {m['patient']}: in the {part} part of the training"
            for m in tested
            if known & _identities([m]) or m["patient"] in patients
        ]
    return faults
