"""Measurements of a mask of non-perfusion: areas, ischaemic index, quadrants and ETDRS rings."""

import cv2
import numpy as np

from lib.runtime.errors import UserError

Measurement = dict[str, float | int | str | None]
"""Columns of `measurements.csv`, by name; None where a value is not known or not defined."""

RINGS_MM = {"centre": (0.0, 0.5), "inner_ring": (0.5, 1.5), "outer_ring": (1.5, 3.0)}
"""Inner and outer radius of the rings of the ETDRS grid (ETDRS report 10, 1991)."""

QUADRANTS = ("superior", "inferior", "left", "right")


def measure(
    mask: np.ndarray,
    probability: np.ndarray,
    field_of_view: np.ndarray,
    *,
    pixel_spacing_mm: tuple[float, float] | None = None,
    fovea: tuple[float, float] | None = None,
    share: str = "ischaemic_index",
) -> Measurement:
    """Measure the mask of one image.

    The ischaemic index is the non-perfused share of the field of view (Tsui et al., Retina 31(3), 2011). The
    diagonals through the fovea separate the quadrants, named as seen in the picture. For each quadrant and
    ring, `ischaemic_index_*` is the non-perfused share of its part inside the field of view. For another
    structure than non-perfusion these columns have another name.

    Args:
        mask: (H, W) bool, inside the field of view.
        probability: (H, W) float32.
        field_of_view: (H, W) uint8 in {0, 1}.
        pixel_spacing_mm: height and width of a pixel; None: no mm² and no rings.
        fovea: row and column; None: no quadrants and no rings.
        share: name of the columns with shares, `TrainedNetwork.share_column`.

    Returns:
        The columns in the order of the table.

    Raises:
        UserError: the fovea lies outside the image.
    """
    inside = field_of_view > 0
    sizes = area_sizes(mask)
    square_mm = pixel_spacing_mm[0] * pixel_spacing_mm[1] if pixel_spacing_mm else None
    area = int(np.count_nonzero(mask))
    measured: Measurement = {
        "field_of_view_px": int(np.count_nonzero(inside)),
        "area_px": area,
        "area_mm2": None if square_mm is None else area * square_mm,
        share: _share(mask, inside),
        "number_of_areas": len(sizes),
        "largest_area_px": sizes[0] if sizes else 0,
        "mean_probability": _mean(probability[mask]),
        "mean_probability_field_of_view": _mean(probability[inside]),
        "fovea_row": fovea[0] if fovea else None,
        "fovea_column": fovea[1] if fovea else None,
    }
    parts = sectors(mask.shape, fovea, pixel_spacing_mm) if fovea else {}
    for name in (*QUADRANTS, *RINGS_MM):
        part = parts.get(name)
        measured[f"area_px_{name}"] = None if part is None else int(np.count_nonzero(mask & part))
        measured[f"{share}_{name}"] = None if part is None else _share(mask & part, inside & part)
    return measured


def sectors(
    shape: tuple[int, ...], fovea: tuple[float, float], pixel_spacing_mm: tuple[float, float] | None
) -> dict[str, np.ndarray]:
    """(H, W) bool for each quadrant and, if the spacing is known, for each ring of the ETDRS grid.

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
        "right": ~upright & (right >= 0),  # includes the pixel of the fovea
    }
    if pixel_spacing_mm:
        distance = np.hypot(down, right)
        for name, (nearest, farthest) in RINGS_MM.items():
            found[name] = (distance >= nearest) & (distance < farthest)
    return found


def area_sizes(mask: np.ndarray) -> list[int]:
    """Number of pixels of each area of a mask, (H, W) bool; largest first."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return sorted(statistics[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    total = np.count_nonzero(whole)
    return np.count_nonzero(part) / total if total else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
