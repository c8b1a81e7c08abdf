"""Checks of settings that are each valid but contradict each other."""

from __future__ import annotations

import os
from pathlib import Path

from lib.configuration.sections import Configuration, by_validation


def contradictions(configuration: Configuration, file: Path) -> list[str]:
    """Return one line for each contradiction between the settings of `file`."""
    testing, training = configuration.testing_settings, configuration.training_settings
    preparation, paths = configuration.preparation, configuration.data_paths
    both = sorted(set(preparation.labels) & set(preparation.ignore_labels))
    names = [one.name for part in ("train", "validation", "test") for one in paths.hdf5(part)]
    uses_training = by_validation(testing) and training.validation == "patches"
    same_folder = os.path.realpath(paths.path_local) == os.path.realpath(paths.path_images)
    checks = {
        f"[testing settings] stride_{side} = {stride}: expected at most "
        f"test_patch_{side} = {patch}, or pixels would be left out": stride > patch
        for side, stride, patch in (
            ("height", testing.stride_height, testing.test_patch_height),
            ("width", testing.stride_width, testing.test_patch_width),
        )
    }
    checks |= {
        f"[testing settings] tile_overlap = {testing.tile_overlap}: expected less than "
        f"tile_size = {testing.tile_size}": testing.tile_overlap >= testing.tile_size,
        "[training settings] batch_size = auto measures one device: expected a number, since "
        f"devices = {training.devices}": training.batch_size == "auto" and training.devices != 1,
        f"[training settings] weight_decay = {training.weight_decay:g}: expected 0 for optimizer = "
        f"{training.optimizer}, or optimizer = adamw": bool(training.weight_decay)
        and training.optimizer != "adamw",
        "[testing settings] threshold or min_area_px = 'validation': expected a number, since "
        "[training settings] validation = 'patches' uses the validation images for training": uses_training,
        f"[preparation] labels and ignore_labels both hold {', '.join(both)}": bool(both),
        "[preparation] labels is empty: expected at least one, e.g. NP": not preparation.labels,
        f"[data paths] path_local and path_images are both {paths.path_images}: expected two folders, "
        "so that nothing is written among the images": same_folder,
    }
    checks |= {
        f"[data paths] names {name} twice: expected nine different files": names.count(name) > 1
        for name in sorted(set(names))
    }
    return [f"{file}: {fault}" for fault, is_wrong in checks.items() if is_wrong]
