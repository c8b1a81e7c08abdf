"""Outlines of areas: as polygons that a doctor can correct, and drawn on the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw

AREA_COLOUR = (240, 228, 66)
FIELD_OF_VIEW_COLOUR = (86, 180, 233)
"""Yellow and sky blue of Okabe and Ito's palette, which the colour-blind can tell apart."""

MAX_DISTANCE = 0.5
"""How far a simplified outline may run from the pixel centres of the area's rim, in pixels."""

MAX_CORNERS = 20_000
"""Of one polygon: the time to fill it grows with their square."""

LEAST_OVERLAP = 0.99
"""Intersection over union of an area with its drawn outline below which the outline is not used."""


@dataclass(frozen=True, eq=False)
class Area:
    """One area of a mask.

    Attributes:
        corner: column and row of the upper left pixel of its bounding box.
        mask: (h, w) bool, the bounding box.
        polygon: float64 (K, 2), x and y in the image; None where none draws the area, or only one of too
            many corners (a sieve).
    """

    corner: tuple[int, int]
    mask: np.ndarray
    polygon: np.ndarray | None


def areas(mask: np.ndarray) -> list[Area]:
    """The areas of a mask, (H, W) bool: pixels that touch, also by a corner; largest first.

    A polygon runs through the centres of the rim's pixels; holes are joined to it by cuts one pixel
    wide (key-holed). Drawn again, rim included, it overlaps the area with an IoU of at least .99.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    order = 1 + np.argsort(-statistics[1:, cv2.CC_STAT_AREA], kind="stable")
    found = []
    for label in order[: count - 1]:
        x, y, width, height = (int(n) for n in statistics[label, :4])
        area = labels[y : y + height, x : x + width] == label
        polygon = _polygon(area)
        found.append(Area((x, y), area, None if polygon is None else np.add(polygon, (x, y))))
    return found


def draw_outlines(
    original: np.ndarray, outlines: Sequence[tuple[np.ndarray, tuple[int, int, int]]]
) -> np.ndarray:
    """The picture, (H, W) or (H, W, 3) uint8, in RGB with the outline of each mask, (H, W), in its colour."""
    colours = original if original.ndim == 3 else original[..., None]
    picture = np.array(np.broadcast_to(colours, (*original.shape[:2], 3)), order="C")
    thickness = max(1, round(max(original.shape[:2]) / 700))
    for mask, colour in outlines:
        cv2.polylines(picture, contours(mask), True, colour, thickness, cv2.LINE_AA)
    return picture


def draw_prediction(
    original: np.ndarray, mask: np.ndarray, field_of_view: np.ndarray
) -> np.ndarray:
    """The picture in RGB with the outlines of the predicted mask and of the field of view."""
    return draw_outlines(original, [(field_of_view, FIELD_OF_VIEW_COLOUR), (mask, AREA_COLOUR)])


def contours(mask: np.ndarray) -> list[np.ndarray]:
    """Rims of a mask's areas and holes: each int32 (K, 2), x and y of the corners, through pixel centres."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [c[:, 0] for c in found]


def _polygon(area: np.ndarray) -> np.ndarray | None:
    ring, joints = _key_holed(area)
    for distance in (MAX_DISTANCE, 0.0):
        corners = _simplified(ring, joints, distance).astype(np.float64)
        if len(corners) > MAX_CORNERS:
            return None
        if len(corners) < 3:
            corners = _widened(corners[0], corners[-1])
        if _overlap(corners, area) >= LEAST_OVERLAP:
            return corners
    return None


def _widened(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A polygon a quarter of a pixel wide: LabelMe wants one that encloses something, and draws a line."""
    return np.array([start, end, np.add(end, (0.25, 0)), np.add(start, (0, 0.25))])


def _key_holed(area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area's rim as one closed ring, int32 (K, 2), and (K,) bool: where cuts begin and end.

    From the top of each hole a cut runs straight up, through the area, to the outer rim or to a hole
    that lies higher: to whatever is not area above the cut's end.
    """
    found, hierarchy = cv2.findContours(
        area.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    outer = next(c[:, 0] for c, h in zip(found, hierarchy[0], strict=True) if h[3] < 0)
    holes = [c[:, 0] for c, h in zip(found, hierarchy[0], strict=True) if h[3] >= 0]
    tops = [hole[hole[:, 1].argmin()] for hole in holes]
    holes = [_from_its_top(hole) for hole in holes]
    _, beyond = cv2.connectedComponents(1 - np.pad(area, 1).astype(np.uint8), connectivity=4)
    beyond = beyond[1:-1, 1:-1]  # the pixel at (x, y) is of this hole, or of the outside
    hole_of = {beyond[y + 1, x]: number for number, (x, y) in enumerate(tops)}
    places = [_places(ring) for ring in (*holes, outer)]
    cuts: list[list[tuple[int, int]]] = [[] for _ in places]
    for number, (x, y) in enumerate(tops):
        end = _end_of_cut(area, x, y)
        # The outer rim, the last ring, is what no hole is.
        ring = hole_of.get(beyond[end - 1, x], -1) if end else -1
        cuts[ring].append((places[ring][x, end], number))
    return _joined([*holes, outer], cuts)


def _from_its_top(hole: np.ndarray) -> np.ndarray:
    """The ring, closed, beginning and ending at its highest point."""
    top = hole[:, 1].argmin()
    return np.concatenate([hole[top:], hole[: top + 1]])


def _places(ring: np.ndarray) -> dict[tuple[int, int], int]:
    """Where in the ring each of its points is."""
    return {(x, y): place for place, (x, y) in enumerate(ring.tolist())}


def _end_of_cut(area: np.ndarray, x: int, y: int) -> int:
    """The row of the last pixel of the area, straight up from (x, y)."""
    above = np.flatnonzero(~area[:y, x])
    return int(above[-1]) + 1 if above.size else 0


def _joined(
    rings: list[np.ndarray], cuts: list[list[tuple[int, int]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Walk along the last ring, and at each cut along the ring at its other end and back.

    Args:
        rings: each int32 (K, 2).
        cuts: of each ring: where in it, and to which ring.
    """
    pieces, joints = [], []
    waiting: list[int | tuple[np.ndarray, bool]] = [len(rings) - 1]
    while waiting:
        item = waiting.pop()
        if isinstance(item, int):
            ring, start, steps = rings[item], 0, []
            for place, other in sorted(cuts[item]):
                steps += [(ring[start : place + 1], True), other]
                start = place
            waiting += [*reversed([*steps, (ring[start:], item < len(rings) - 1)])]
            continue
        piece, ends_at_cut = item
        marks = np.zeros(len(piece), bool)
        marks[-1] = ends_at_cut
        # After a cut and back the walk goes on from a joint, too.
        marks[0] = bool(joints)
        pieces.append(piece)
        joints.append(marks)
    return np.concatenate(pieces), np.concatenate(joints)


def _simplified(ring: np.ndarray, joints: np.ndarray, distance: float) -> np.ndarray:
    """Douglas and Peucker's simplification that leaves the joints where they are."""
    fixed = np.flatnonzero(joints)
    if not fixed.size:
        return cv2.approxPolyDP(ring, distance, True)[:, 0]
    ring = np.roll(ring, -fixed[0], axis=0)
    closed = np.concatenate([ring, ring[:1]])
    pieces = [closed[a : b + 1] for a, b in pairwise([*(fixed - fixed[0]), len(ring)])]
    halves = [half for piece in pieces for half in _halves(piece)]
    return np.concatenate([cv2.approxPolyDP(half, distance, False)[:-1, 0] for half in halves])


def _halves(piece: np.ndarray) -> list[np.ndarray]:
    """The piece, or where it ends at its start (around a hole) its two halves: a loop has no chord."""
    if (piece[0] != piece[-1]).any():
        return [piece]
    farthest = np.abs(piece - piece[0]).sum(axis=1).argmax()
    return [piece[: farthest + 1], piece[farthest:]] if farthest else []


def _overlap(corners: np.ndarray, area: np.ndarray) -> float:
    """IoU of the area with the polygon as LabelMe draws it: filled, its edge included."""
    canvas = Image.new("L", area.shape[::-1])
    ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), outline=1, fill=1)
    drawn = np.asarray(canvas) > 0
    return np.count_nonzero(drawn & area) / np.count_nonzero(drawn | area)
