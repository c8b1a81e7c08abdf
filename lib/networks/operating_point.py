"""Operating point: the precision, the threshold and the smallest area that turn probabilities into a mask."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lib.configuration.sections import TestingSettings
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError

PREDICTION_KEYS = (
    "test_patch_height",
    "test_patch_width",
    "window",
    "stride_height",
    "stride_width",
    "tile_size",
    "tile_overlap",
    "tta",
    "logit_shift",
    "precision",
)
"""Keys of [testing settings] that change the probabilities."""

CHOICE_KEYS = ("threshold", "best_last", *PREDICTION_KEYS)
"""Keys of [testing settings] that change the choice; a number as `min_area_px` changes nothing else."""


@dataclass(frozen=True)
class OperatingPoint:
    """Pixels of at least probability `threshold` are positive, in areas of at least `min_area_px` pixels.

    The probabilities are computed in `precision`, "float32" or "mixed_bfloat16".
    """

    threshold: float
    threshold_source: str
    min_area_px: int
    precision: str = "float32"


def configured_operating_point(settings: TestingSettings) -> OperatingPoint | None:
    """The operating point of the settings; None if testing must choose some of its values."""
    threshold, min_area_px = settings.threshold, settings.min_area_px
    if threshold == "validation" or min_area_px == "validation" or settings.precision == "auto":
        return None
    return OperatingPoint(threshold, "configuration", min_area_px, settings.precision)


def write_operating_point(
    file: Path, point: OperatingPoint, settings: TestingSettings, weights_sha256: str
) -> None:
    """Write the operating point that was chosen, and the settings and weights for which it holds."""
    content = {**asdict(point), "chosen_for": _chosen_for(settings), "weights_sha256": weights_sha256}
    write_text(file, json.dumps(content, indent=2) + "\n")


def read_operating_point(file: Path, settings: TestingSettings, weights_sha256: str) -> OperatingPoint:
    """The operating point of the settings or, if testing must choose some of its values, of the file.

    Raises:
        UserError: testing has not chosen yet, or has chosen for other settings or for the weights of another
            epoch, or the file is damaged.
    """
    if point := configured_operating_point(settings):
        return point
    remedy = (
        "run run_testing.py with the same settings, or choose: "
        '--set "testing settings.threshold=0.5" --set "testing settings.min_area_px=0" '
        '--set "testing settings.precision=float32"'
    )
    if not file.is_file():
        raise UserError(f"{file}: no such file; testing chooses threshold, area or precision: {remedy}")
    stored = read_json(file, remedy)
    default = {"precision": "float32"}  # older files lack the key
    try:
        chosen_for = default | stored.pop("chosen_for")
        of_weights = stored.pop("weights_sha256", weights_sha256)  # older files lack it
        older = {True: "mirrors", False: "none"}  # older files have a truth value for tta
        chosen_for["tta"] = older.get(chosen_for["tta"], chosen_for["tta"])
        point = OperatingPoint(**stored)
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: not an operating point ({error}); {remedy}") from None
    differences = [
        f"[testing settings] {name} = {value}, chosen for {chosen_for.get(name, 'a number')}"
        for name, value in _chosen_for(settings).items()
        if value != chosen_for.get(name)
    ]
    if differences:
        raise UserError(f"{file}: chosen for other settings: {'; '.join(differences)}; {remedy}")
    if of_weights != weights_sha256:
        raise UserError(f"{file}: chosen for other weights (trained further or imported since); {remedy}")
    if settings.min_area_px == "validation":
        return point
    return replace(point, min_area_px=settings.min_area_px)


def _chosen_for(settings: TestingSettings) -> dict[str, object]:
    keys = [*CHOICE_KEYS, "min_area_px"] if settings.min_area_px == "validation" else CHOICE_KEYS
    return {name: getattr(settings, name) for name in keys}
