"""Weights that a training begins with: they must not have learnt from what will be tested."""

import json
from pathlib import Path

from lib.configuration import Configuration, read_configuration
from lib.user_errors import UserError, raise_all

IDENTITY = ("sha256", "pixels")
"""By which two images are the same, whatever they are called."""


def refuse_seen(configuration: Configuration) -> None:
    """Refuse initial weights, and those that they began with, which have seen a test image or its patient.

    Patients are compared by name where the two splits share an image; else one name is two people.

    Raises:
        UserError: names the images; or the split that the weights were trained on is not known.
    """
    weights = configuration.training_settings.initial_weights
    if weights == "none":
        return
    paths = configuration.data_paths
    tested = _parts((paths.path_test or paths.path_local) / "split.json")
    known: set[Path] = set()
    while weights != "none" and weights not in known:
        known.add(weights)
        learnt = _parts(weights.parent / "split.json")
        raise_all(
            _seen(tested, learnt),
            f"[training settings] initial_weights: {weights} has seen what is to be tested",
        )
        stored = list(weights.parent.glob("*_configuration.txt"))
        weights = (
            read_configuration(stored[0]).training_settings.initial_weights if stored else "none"
        )


def _parts(split: Path) -> dict[str, list[dict]]:
    if not split.is_file():
        raise UserError(
            f"{split}: no such file, so that nobody can say which images were learnt from; expected "
            "[training settings] initial_weights in the folder of an experiment that was trained here"
        )
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
