"""What a mask of non-perfusion means: areas, ischaemic index, quadrants and rings around the fovea."""

from collections.abc import Mapping

import cv2
import numpy as np

from lib.runtime.errors import UserError

Measurement = Mapping[str, float | int | str | None]

RINGS_MM = {"centre": (0.0, 0.5), "inner_ring": (0.5, 1.5), "outer_ring": (1.5, 3.0)}
"""Radii of the grid of the Early Treatment Diabetic Retinopathy Study (ETDRS report 10, 1991)."""

QUADRANTS = ("superior", "inferior", "left", "right")


def measure(
    mask: np.ndarray,
    probability: np.ndarray,
    field_of_view: np.ndarray,
    *,
    pixel_spacing_mm: tuple[float, float] | None = None,
    fovea: tuple[float, float] | None = None,
) -> dict[str, float | int | str | None]:
    """Measure the mask of one image.

    The ischaemic index is the share of the gradable field of view that is not perfused (Tsui et al.,
    Retina 31(3), 2011). Quadrants are parted by the diagonals through the fovea, as seen in the picture;
    for each, and for each ETDRS ring, `ischaemic_index_*` is the non-perfused share of what the field of
    view shows of it.

    Args:
        mask: (H, W) bool, inside the field of view.
        probability: (H, W) float32.
        field_of_view: (H, W) uint8 in {0, 1}.
        pixel_spacing_mm: height and width of a pixel; without it there are no mm² and no rings.
        fovea: row and column; without it there are no quadrants and no rings.

    Returns:
        Columns of `measurements.csv` in their order; None where something is not known or undefined.

    Raises:
        UserError: the fovea lies outside the image.
    """
    inside = field_of_view > 0
    sizes = _area_sizes(mask)
    square_mm = pixel_spacing_mm[0] * pixel_spacing_mm[1] if pixel_spacing_mm else None
    area = int(np.count_nonzero(mask))
    measured = {
        "field_of_view_px": int(np.count_nonzero(inside)),
        "area_px": area,
        "area_mm2": None if square_mm is None else area * square_mm,
        "ischaemic_index": _share(mask, inside),
        "number_of_areas": len(sizes),
        "largest_area_px": sizes[0] if sizes else 0,
        "area_sizes_px": " ".join(map(str, sizes)),
        "mean_probability": float(probability[mask].mean()) if area else None,
        "mean_probability_field_of_view": float(probability[inside].mean())
        if inside.any()
        else None,
        "fovea_row": fovea[0] if fovea else None,
        "fovea_column": fovea[1] if fovea else None,
    }
    parts = sectors(mask.shape, fovea, pixel_spacing_mm) if fovea else {}
    for name in (*QUADRANTS, *RINGS_MM):
        part = parts.get(name)
        known = part is not None
        measured[f"area_px_{name}"] = int(np.count_nonzero(mask & part)) if known else None
        measured[f"ischaemic_index_{name}"] = _share(mask & part, inside & part) if known else None
    return measured


def sectors(
    shape: tuple[int, int],
    fovea: tuple[float, float],
    pixel_spacing_mm: tuple[float, float] | None,
) -> dict[str, np.ndarray]:
    """(H, W) bool for each quadrant and, where the spacing is known, for each ring of the ETDRS grid.

    Raises:
        UserError: the fovea lies outside the image.
    """
    if not (0 <= fovea[0] <= shape[0] - 1 and 0 <= fovea[1] <= shape[1] - 1):
        raise UserError(
            f"the fovea, row {fovea[0]:g} and column {fovea[1]:g}, lies outside the image of "
            f"{shape[0]} rows and {shape[1]} columns"
        )
    height, width = pixel_spacing_mm or (1.0, 1.0)
    down = (np.arange(shape[0])[:, None] - fovea[0]) * height
    right = (np.arange(shape[1])[None] - fovea[1]) * width
    upright = np.abs(down) > np.abs(right)
    found = {
        "superior": upright & (down < 0),
        "inferior": upright & (down > 0),
        "left": ~upright & (right < 0),
        "right": ~upright & (right >= 0),  # the fovea's own pixel must be somewhere
    }
    if pixel_spacing_mm:
        distance = np.hypot(down, right)
        for name, (nearest, farthest) in RINGS_MM.items():
            found[name] = (distance >= nearest) & (distance < farthest)
    return found


def _area_sizes(mask: np.ndarray) -> list[int]:
    """Pixels of each area, largest first."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return sorted(statistics[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    total = np.count_nonzero(whole)
    return np.count_nonzero(part) / total if total else None
