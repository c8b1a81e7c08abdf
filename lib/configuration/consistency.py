"""Settings that are possible one by one, but not together."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from lib.configuration.sections import (
    DataPaths,
    Preparation,
    TestingSettings,
    TrainingSettings,
)


def contradictions(sections: dict[str, Any], file: Path) -> list[str]:
    """Settings that are each possible, but not together."""
    faults = []
    testing: TestingSettings = sections["testing_settings"]
    for side in ("height", "width"):
        stride, patch = (getattr(testing, f"{name}_{side}") for name in ("stride", "test_patch"))
        if stride > patch:
            faults.append(
                f"{file}: [testing settings] stride_{side} = {stride}: expected at most "
                f"test_patch_{side} = {patch}, or pixels would be left out"
            )
    if testing.tile_overlap >= testing.tile_size:
        faults.append(
            f"{file}: [testing settings] tile_overlap = {testing.tile_overlap}: expected less than "
            f"tile_size = {testing.tile_size}"
        )
    training: TrainingSettings = sections["training_settings"]
    if training.batch_size == "auto" and training.devices != 1:
        faults.append(
            f"{file}: [training settings] batch_size = auto measures one device: expected a number, since "
            f"devices = {training.devices}"
        )
    by_validation = {"validation"} & {testing.threshold, testing.min_area_px}
    if by_validation and sections["training_settings"].validation == "patches":
        faults.append(
            f"{file}: [testing settings] threshold or min_area_px = 'validation': expected a number, "
            "since [training settings] validation = 'patches' lets the validation images train"
        )
    preparation: Preparation = sections["preparation"]
    if both := set(preparation.labels) & set(preparation.ignore_labels):
        faults.append(
            f"{file}: [preparation] labels and ignore_labels both hold {', '.join(sorted(both))}"
        )
    if not preparation.labels:
        faults.append(f"{file}: [preparation] labels is empty: expected at least one, e.g. NP")
    paths: DataPaths = sections["data_paths"]
    if os.path.realpath(paths.path_local) == os.path.realpath(paths.path_images):
        faults.append(
            f"{file}: [data paths] path_local and path_images are both {paths.path_images}: expected "
            "two folders, so that nothing is written among the images"
        )
    names = [getattr(paths, f.name) for f in dataclasses.fields(paths) if f.type is str]
    for name in sorted({n for n in names if names.count(n) > 1}):
        faults.append(f"{file}: [data paths] names {name} twice: expected nine different files")
    return faults
