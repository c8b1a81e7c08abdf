"""Outlines of the areas of a mask: as polygons for LabelMe, and drawn on an image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image, ImageDraw

AREA_COLOUR = (240, 228, 66)
FIELD_OF_VIEW_COLOUR = (86, 180, 233)
"""Yellow and sky blue of the palette of Okabe and Ito, which colour-blind people can distinguish."""

MAX_DISTANCE = 0.5
"""Largest distance in pixels of a simplified outline from the centres of the area's border pixels."""

MAX_CORNERS = 20_000
"""Limit for one polygon: the time to fill it grows with the square of its corners."""

LEAST_OVERLAP = 0.99
"""Least intersection over union (IoU) of an area with its drawn polygon; else the polygon is not used."""


@dataclass(frozen=True, eq=False)
class Area:
    """One area of a mask.

    Attributes:
        corner: column and row of the upper left pixel of its bounding box.
        mask: (h, w) bool, the pixels of the area in its bounding box.
        polygon: float64 (K, 2), x and y in the image; None if no polygon of at most `MAX_CORNERS`
            represents the area (e.g. one with thousands of holes).
    """

    corner: tuple[int, int]
    mask: np.ndarray
    polygon: np.ndarray | None


def areas(mask: np.ndarray) -> list[Area]:
    """The areas (8-connected pixels) of a mask, (H, W) bool, from the largest to the smallest.

    A polygon passes through the centres of the border pixels. Cuts of one pixel width connect holes to
    it (a keyhole polygon). If it is drawn with its edge, its IoU with the area is at least 0.99.
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
    """The image, (H, W) or (H, W, 3) uint8, as RGB with the outline of each mask, (H, W), in its colour."""
    colours = original if original.ndim == 3 else original[..., None]
    picture = np.array(np.broadcast_to(colours, (*original.shape[:2], 3)), order="C")
    thickness = max(1, round(max(original.shape[:2]) / 700))
    for mask, colour in outlines:
        cv2.polylines(picture, contours(mask), True, colour, thickness, cv2.LINE_AA)
    return picture


def contours(mask: np.ndarray) -> list[np.ndarray]:
    """Contours of areas and holes: each int32 (K, 2), x and y of corners, which are pixel centres."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [c[:, 0] for c in found]


def filled_polygons(polygons: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Union of polygons, each (K, 2), x and y, with their edges: uint8 array of `shape` in {0, 1}."""
    canvas = Image.new("L", shape[::-1])
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon(polygon.ravel().tolist(), outline=1, fill=1)
    return np.array(canvas)


def _polygon(area: np.ndarray) -> np.ndarray | None:
    ring, joints = _key_holed(area)
    for distance in (MAX_DISTANCE, 0.0):
        corners = _simplified(ring, joints, distance).astype(np.float64)
        if len(corners) > MAX_CORNERS:
            return None
        if len(corners) < 3:
            # A quarter of a pixel wide, which is drawn as a line: LabelMe needs an enclosed area.
            start, end = corners[0], corners[-1]
            corners = np.array([start, end, np.add(end, (0.25, 0)), np.add(start, (0, 0.25))])
        if _overlap(corners, area) >= LEAST_OVERLAP:
            return corners
    return None


def _key_holed(area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area's contour as one closed ring, int32 (K, 2), and (K,) bool: points where cuts start or end.

    From the top of each hole, a cut goes straight up through the area, to the outer contour or to a
    hole above.
    """
    found, hierarchy = cv2.findContours(area.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = next(c[:, 0] for c, h in zip(found, hierarchy[0], strict=True) if h[3] < 0)
    holes = [c[:, 0] for c, h in zip(found, hierarchy[0], strict=True) if h[3] >= 0]
    tops = [hole[hole[:, 1].argmin()] for hole in holes]
    holes = [_from_its_top(hole) for hole in holes]
    _, beyond = cv2.connectedComponents(1 - np.pad(area, 1).astype(np.uint8), connectivity=4)
    beyond = beyond[1:-1, 1:-1]  # label of the hole, or of the outside, at each pixel
    hole_of = {beyond[y + 1, x]: number for number, (x, y) in enumerate(tops)}
    # For each ring, the index of each of its points.
    indices = [{(x, y): i for i, (x, y) in enumerate(ring.tolist())} for ring in (*holes, outer)]
    cuts: list[list[tuple[int, int]]] = [[] for _ in indices]
    for number, (x, y) in enumerate(tops):
        end = _end_of_cut(area, x, y)
        # If it is not a hole, it is the outer contour: the last ring.
        ring = hole_of.get(beyond[end - 1, x], -1) if end else -1
        cuts[ring].append((indices[ring][x, end], number))
    return _joined([*holes, outer], cuts)


def _from_its_top(hole: np.ndarray) -> np.ndarray:
    """The closed ring from its highest point to the same point."""
    top = hole[:, 1].argmin()
    return np.concatenate([hole[top:], hole[: top + 1]])


def _end_of_cut(area: np.ndarray, x: int, y: int) -> int:
    """Row of the last pixel of the area straight up from (x, y)."""
    above = np.flatnonzero(~area[:y, x])
    return int(above[-1]) + 1 if above.size else 0


def _joined(rings: list[np.ndarray], cuts: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Follow the last ring; at each cut, follow the ring at its other end and return.

    Args:
        rings: each int32 (K, 2).
        cuts: for each ring, (index in this ring, number of the other ring) of each cut.
    """
    pieces: list[np.ndarray] = []
    joints: list[np.ndarray] = []
    waiting: list[int | tuple[np.ndarray, bool]] = [len(rings) - 1]
    while waiting:
        item = waiting.pop()
        if isinstance(item, int):
            ring, start = rings[item], 0
            steps: list[int | tuple[np.ndarray, bool]] = []
            for index, other in sorted(cuts[item]):
                steps += [(ring[start : index + 1], True), other]
                start = index
            steps.append((ring[start:], item < len(rings) - 1))
            waiting += steps[::-1]
            continue
        piece, ends_at_cut = item
        marks = np.zeros(len(piece), bool)
        marks[-1] = ends_at_cut
        marks[0] = bool(joints)  # each piece after the first starts at a cut
        pieces.append(piece)
        joints.append(marks)
    return np.concatenate(pieces), np.concatenate(joints)


def _simplified(ring: np.ndarray, joints: np.ndarray, distance: float) -> np.ndarray:
    """Simplify with the Douglas-Peucker algorithm; the joints stay."""
    fixed = np.flatnonzero(joints)
    if not fixed.size:
        return cv2.approxPolyDP(ring, distance, True)[:, 0]
    ring = np.roll(ring, -fixed[0], axis=0)
    closed = np.concatenate([ring, ring[:1]])
    pieces = [closed[a : b + 1] for a, b in pairwise([*(fixed - fixed[0]), len(ring)])]
    halves = [half for piece in pieces for half in _halves(piece)]
    return np.concatenate([cv2.approxPolyDP(half, distance, False)[:-1, 0] for half in halves])


def _halves(piece: np.ndarray) -> list[np.ndarray]:
    """The piece, or two halves if it is closed (around a hole): Douglas-Peucker needs two end points."""
    if (piece[0] != piece[-1]).any():
        return [piece]
    farthest = np.abs(piece - piece[0]).sum(axis=1).argmax()
    return [piece[: farthest + 1], piece[farthest:]] if farthest else []


def _overlap(corners: np.ndarray, area: np.ndarray) -> float:
    """IoU of the area with the polygon as LabelMe draws it: filled, with its edge."""
    drawn = filled_polygons([corners], area.shape) > 0
    return np.count_nonzero(drawn & area) / np.count_nonzero(drawn | area)
