"""How probabilities become a mask: in which precision, by which threshold and smallest area, and why."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lib.configuration.sections import TestingSettings, by_validation
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError

WINDOW = (
    "test_patch_height",
    "test_patch_width",
    "window",
    "stride_height",
    "stride_width",
    "tile_size",
    "tile_overlap",
    "tta",
    "precision",
)
"""Settings of section [testing settings] by which an image is predicted."""

CHOSEN_FOR = ("threshold", "min_area_px", "best_last", *WINDOW)
"""Settings on which the choice depends."""


@dataclass(frozen=True)
class OperatingPoint:
    """A pixel counts where its probability is at least `threshold`, in areas of `min_area_px` or more.

    Probabilities are computed in `precision`, float32 or mixed_bfloat16.
    """

    threshold: float
    threshold_source: str
    min_area_px: int
    precision: str = "float32"


def chosen_by_testing(settings: TestingSettings) -> bool:
    """Whether anything is left to choose: these or the precision."""
    return by_validation(settings) or settings.precision == "auto"


def write_operating_point(file: Path, point: OperatingPoint, settings: TestingSettings) -> None:
    """Keep what the validation images chose, and for which way of predicting."""
    content = {**asdict(point), "chosen_for": _chosen_for(settings)}
    write_text(file, json.dumps(content, indent=2) + "\n")


def read_operating_point(file: Path, settings: TestingSettings) -> OperatingPoint:
    """What the settings say or, where they leave it to the validation images, what testing chose.

    Raises:
        UserError: testing has not chosen yet, or for another way of predicting.
    """
    if not chosen_by_testing(settings):
        return OperatingPoint(
            settings.threshold, "configuration", settings.min_area_px, settings.precision
        )
    remedy = (
        "run run_testing.py with the same settings, or choose: "
        '--set "testing settings.threshold=0.5" --set "testing settings.min_area_px=0" '
        '--set "testing settings.precision=float32"'
    )
    if not file.is_file():
        raise UserError(
            f"{file}: not there; testing chooses threshold, area or precision: {remedy}"
        )
    stored = json.loads(file.read_text(encoding="utf-8"))
    before = {"precision": "float32"}  # in files written before the key existed
    if before | stored.pop("chosen_for") != _chosen_for(settings):
        raise UserError(
            f"{file}: chosen for other testing settings (window, patch, stride, tta, precision): {remedy}"
        )
    return OperatingPoint(**stored)


def _chosen_for(settings: TestingSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in CHOSEN_FOR}
