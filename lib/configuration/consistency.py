"""Checks of settings that are each valid but contradict each other."""

from __future__ import annotations

import os
from pathlib import Path

from lib.configuration.sections import (
    Configuration,
    DataPaths,
    Preparation,
    Preprocessing,
    TestingSettings,
    by_validation,
)
from models import MOST_FILTERS


def contradictions(configuration: Configuration, file: Path) -> list[str]:
    """Return one line for each contradiction between the settings of `file`."""
    testing, training = configuration.testing_settings, configuration.training_settings
    model = configuration.model
    preparation, paths = configuration.preparation, configuration.data_paths
    most_filters = MOST_FILTERS.get(model.architecture, len(model.filters))
    both = sorted(set(preparation.labels) & set(preparation.ignore_labels))
    names = [one.name for part in ("train", "validation", "test") for one in paths.hdf5(part)]
    uses_training = by_validation(testing) and training.validation != "images"
    own_split = preparation.split_file and os.path.realpath(preparation.split_file)
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
        f"[preparation] fold = {preparation.fold} tests two folds, so that no image is left for validation: "
        "expected [training settings] validation = none, and numbers as threshold and min_area_px": (
            preparation.fold is not None
            and len(preparation.fold.tested) > 1
            and training.validation == "images"
        ),
        "[testing settings] threshold or min_area_px = 'validation': expected a number, since "
        "[training settings] validation is not 'images', so that no image validates": uses_training,
        f"[model] encoder_weights = {model.encoder_weights}: expected none for architecture = "
        f"{model.architecture}, or architecture = efficientnet_unet": model.encoder_weights != "none"
        and model.architecture != "efficientnet_unet",
        f"[model] filters = {' '.join(map(str, model.filters))}: expected at most {most_filters} numbers for "
        f"architecture = {model.architecture}": len(model.filters) > most_filters,
        "[preparation] split_ratio has no training images: expected an empty fold and split_file, and "
        "an empty [data paths] path_negatives": preparation.split_ratio[0] == 0
        and bool(preparation.fold or preparation.split_file or paths.path_negatives),
        f"[preparation] labels and ignore_labels both hold {', '.join(both)}": bool(both),
        "[preparation] labels is empty: expected at least one, e.g. NP": not preparation.labels,
        f"[data paths] path_local and path_images are both {paths.path_images}: expected two folders, "
        "so that nothing is written among the images": same_folder,
        f"[preparation] split_file = {preparation.split_file}: the preparation of a fold writes this file; "
        "expected another one": preparation.fold is not None and own_split == os.path.realpath(paths.split),
    }
    checks |= {
        f"[data paths] names {name} twice: expected nine different files": names.count(name) > 1
        for name in sorted(set(names))
    }
    checks |= _auxiliary_labels_elsewhere(preparation) | _confused_negatives(paths)
    faults = [fault for fault, is_wrong in checks.items() if is_wrong]
    return [f"{file}: {fault}" for fault in faults + unknown_scale(configuration.preprocessing, testing)]


def unknown_scale(preprocessing: Preprocessing, testing: TestingSettings) -> list[str]:
    """A line if the angle of the tested field of view is given, but not the scale of the training."""
    scale = {
        "[preprocessing] field_of_view_diameter": preprocessing.field_of_view_diameter,
        "[testing settings] training_field_of_view_degrees": testing.training_field_of_view_degrees,
    }
    missing = [key for key, value in scale.items() if not value]
    if not (testing.test_field_of_view_degrees and missing):
        return []
    return [
        f"[testing settings] test_field_of_view_degrees = {testing.test_field_of_view_degrees:g}: found no "
        f"{' and no '.join(missing)}; expected both as in the training, or no test_field_of_view_degrees"
    ]


def _auxiliary_labels_elsewhere(preparation: Preparation) -> dict[str, bool]:
    auxiliary, ignored = set(preparation.auxiliary_labels), preparation.ignore_labels
    as_labels, as_ignored = sorted(auxiliary & set(preparation.labels)), sorted(auxiliary & set(ignored))
    others = ", ".join(label for label in ignored if label not in auxiliary)
    return {
        f"[preparation] labels and auxiliary_labels both hold {', '.join(as_labels)}": bool(as_labels),
        f"[preparation] ignore_labels and auxiliary_labels both hold {', '.join(as_ignored)}: expected a "
        f"label in one of them; with these auxiliary_labels, set ignore_labels = {others or '(empty)'}": bool(
            as_ignored
        ),
    }


def _confused_negatives(paths: DataPaths) -> dict[str, bool]:
    """Negatives are named after their folder, and lie in other folders than the labelled images."""
    folders = [os.path.realpath(folder) for folder in paths.path_negatives]
    names = [folder.name.casefold() for folder in paths.path_negatives]
    checks = {
        f"[data paths] path_negatives holds {getattr(paths, key)}, which is {key}: expected another folder": (
            os.path.realpath(getattr(paths, key)) in folders
        )
        for key in ("path_images", "path_local")
    }
    checks |= {
        f"[data paths] path_negatives has more than one folder named {name}: expected different names, "
        "because the images are named after their folder": names.count(name) > 1
        for name in sorted(set(names))
    }
    return checks
