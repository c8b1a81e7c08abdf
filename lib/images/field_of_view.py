"""Detect the field of view: the part of an image inside the camera's round aperture."""

from dataclasses import dataclass

import cv2
import numpy as np

_SEARCH_SIDE = 512
"""Longest side in pixels of the reduced image in which the circle is found; then it is refined."""

_THRESHOLDS = (2, 4, 7, 11, 16, 24, 36, 54)
"""Grey levels that may separate the dark surround from the retina; the best circle of all is kept."""

_SUPPORT = 0.6
"""A circle is accepted if at least this share of its arc in the image is brighter inside than outside."""


@dataclass(frozen=True)
class _Circle:
    x: float
    y: float
    radius: float

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance of each point from the circle in pixels, negative inside."""
        return np.hypot(x - self.x, y - self.y) - self.radius

    def scaled(self, factor: float) -> "_Circle":
        """This circle in an image that is `factor` times as large (pixel centres at whole numbers)."""
        x, y = ((c + 0.5) * factor - 0.5 for c in (self.x, self.y))
        return _Circle(x, y, self.radius * factor)


def detect_field_of_view(image: np.ndarray) -> np.ndarray:
    """Find the circular aperture, which the image border or a straight edge may cut; else the full image.

    A threshold is not enough: non-perfused areas at the border are as dark as the surround.
    Circles are fitted to the outermost bright pixels by random sample consensus (RANSAC; Fischler
    and Bolles, Commun. ACM 24(6), 1981). The circle with the highest contrast along its arc is kept
    and fitted to the steepest decrease of brightness. If there is no circle, the result is the convex
    hull of the bright pixels, or the full image if the hull covers nearly all of it.

    Args:
        image: uint8 (H, W) or (H, W, 3).

    Returns:
        uint8 (H, W) in {0, 1}; all 0 for a black image, all 1 for any other constant image.
    """
    grey = image.max(axis=2) if image.ndim == 3 else image
    if grey.min() == grey.max():
        return np.full(grey.shape, grey.max() > 0, np.uint8)
    grey = cv2.medianBlur(np.ascontiguousarray(grey), 3)
    factor = max(1.0, max(grey.shape) / _SEARCH_SIDE)
    small = cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    circle = _best_circle(small)
    if circle is None:
        return _hull(grey)
    circle = _refined(grey, circle.scaled(factor))
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    inside = circle.distance(columns, rows) <= 0
    return _cut_straight(grey, inside).astype(np.uint8)


def _best_circle(grey: np.ndarray) -> _Circle | None:
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5).astype(np.float32)
    candidates = [_consensus(_outermost(grey > t), min(grey.shape)) for t in _THRESHOLDS]
    supports = [_support(smooth, c) if c else 0.0 for c in candidates]
    if max(supports) < _SUPPORT:
        return None
    # Among similar supports take the lowest threshold: higher ones may follow a shadow inside.
    return next(c for c, s in zip(candidates, supports, strict=True) if s > max(supports) - 0.03)


def _outermost(bright: np.ndarray) -> np.ndarray:
    """First and last bright pixel of each row and column, without image borders: float64 (K, 2), x, y."""
    opened = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    ends = []
    for lines in (opened, opened.T):
        filled = np.flatnonzero(lines.any(axis=1))
        first = lines[filled].argmax(axis=1)
        last = lines.shape[1] - 1 - lines[filled, ::-1].argmax(axis=1)
        both = [np.stack([end, filled], axis=1) for end in (first, last)]
        ends.append(np.concatenate(both)[:, :: 1 if lines is opened else -1])
    points = np.concatenate(ends)
    margin, size = 3, np.array(bright.shape[::-1])
    return points[((points >= margin) & (points < size - margin)).all(axis=1)].astype(float)


def _consensus(points: np.ndarray, side: int) -> _Circle | None:
    """The circle near most points, with a diameter between half and twice the shorter side (RANSAC)."""
    if len(points) < 20:
        return None
    random = np.random.default_rng(0)
    points = random.permutation(points)[:600]
    triples = random.integers(0, len(points), (400, 3))
    x, y, radius = _through(points[triples])
    plausible = (radius > side / 4) & (radius < side)
    if not plausible.any():
        return None
    x, y, radius = (a[plausible, None] for a in (x, y, radius))
    near = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < 1.5
    best = near[near.sum(axis=1).argmax()]
    return _least_squares(points[best]) if best.sum() >= 20 else None


def _through(triples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and radii of the circles through (N, 3, 2) points; infinite for points on a line."""
    first = triples[:, 0]
    (ax, ay), (bx, by) = (triples[:, 1] - first).T, (triples[:, 2] - first).T
    with np.errstate(divide="ignore", invalid="ignore"):
        twice_area = 2 * (ax * by - ay * bx)
        x = (by * (ax**2 + ay**2) - ay * (bx**2 + by**2)) / twice_area
        y = (ax * (bx**2 + by**2) - bx * (ax**2 + ay**2)) / twice_area
    return first[:, 0] + x, first[:, 1] + y, np.hypot(x, y)


def _least_squares(points: np.ndarray) -> _Circle:
    """Algebraic fit: x^2 + y^2 = 2 a x + 2 b y + c (Kasa, IEEE Trans. Instrum. Meas. 25, 1976)."""
    middle = points.mean(axis=0)
    centred = points - middle
    unknowns = np.column_stack([2 * centred, np.ones(len(points))])
    (a, b, c), *_ = np.linalg.lstsq(unknowns, (centred**2).sum(axis=1), rcond=None)
    return _Circle(middle[0] + a, middle[1] + b, float(np.sqrt(c + a**2 + b**2)))


def _support(smooth: np.ndarray, circle: _Circle) -> float:
    """Share of the arc in the image that is brighter inside than outside; 0 if the outside is not dark."""
    rows, columns = np.ogrid[: smooth.shape[0], : smooth.shape[1]]
    distance = circle.distance(columns, rows)
    outside, inside = smooth[distance > 4], smooth[distance < 0]
    if outside.size < 50 or not inside.size:
        return 0.0
    if np.percentile(outside, 95) > 0.5 * np.percentile(inside, 75):
        return 0.0
    step = max(3.0, 0.012 * circle.radius)
    profiles = _radial(smooth, circle, np.array([-step, step]))
    profiles = profiles[np.isfinite(profiles).all(axis=1)]
    if len(profiles) < 36:  # of 720: too little of the circle is in the image
        return 0.0
    noise = 1.5 * np.median(np.abs(outside - np.median(outside)))
    return float((profiles[:, 0] - profiles[:, 1] > max(1.0, 2 * noise)).mean())


def _radial(grey: np.ndarray, circle: _Circle, offsets: np.ndarray) -> np.ndarray:
    """float32 (720, K): levels at `offsets` from the circle, every half degree; NaN outside the image."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[:, None]
    x = (circle.x + (circle.radius + offsets) * np.cos(angles)).astype(np.float32)
    y = (circle.y + (circle.radius + offsets) * np.sin(angles)).astype(np.float32)
    levels, border = grey.astype(np.float32), cv2.BORDER_CONSTANT
    return cv2.remap(levels, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=float("nan"))


def _refined(grey: np.ndarray, circle: _Circle) -> _Circle:
    """Least-squares circle through the steepest decrease along each ray; outliers are rejected twice."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    reach = max(4.0, 0.015 * circle.radius)
    offsets = np.linspace(-reach, reach, 4 * int(reach) + 1)
    decreases = -np.diff(_radial(smooth, circle, offsets), axis=1)
    inside = np.isfinite(decreases).all(axis=1)
    steepest = decreases[inside].argmax(axis=1)
    strength = decreases[inside].max(axis=1)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[inside]
    radius = circle.radius + (offsets[steepest] + (offsets[1] - offsets[0]) / 2)
    points = np.column_stack([circle.x + radius * np.cos(angles), circle.y + radius * np.sin(angles)])
    points = points[strength > 0.3 * np.median(strength)]
    for _ in range(2):
        circle = _least_squares(points)
        residuals = np.abs(circle.distance(*points.T))
        points = points[residuals <= max(1.0, 2.5 * np.median(residuals))]
    return circle


def _cut_straight(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Remove the dark part of the circle beyond a straight edge at the top, left, bottom or right.

    Across such an edge, most pixels of a chord become twice as bright within four rows. Shading of the
    retina and non-perfused areas do not show this.
    """
    kept = inside.copy()
    for quarter in range(4):
        turned, chord, levels = (np.rot90(a, quarter) for a in (kept, inside, grey.astype(int)))
        rows = np.flatnonzero(chord.any(axis=1))
        rows = rows[2 : len(rows) // 6]
        jumps = (levels[rows + 2] > 2 * levels[rows - 2] + 5) & chord[rows]
        share = jumps.sum(axis=1) / chord[rows].sum(axis=1)
        if share.max(initial=0) > 0.7:
            edge = rows[np.flatnonzero(share > 0.9 * share.max())]
            turned[: int(edge.mean())] = False
    return kept


def _hull(grey: np.ndarray) -> np.ndarray:
    """Convex hull of the largest bright region; the full image if the hull covers nearly all of it."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    threshold = min(float(np.percentile(border, 5)) + 3, 0.25 * float(np.percentile(grey, 90)))
    bright = (grey > threshold).astype(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(grey.shape, np.uint8)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.fillConvexPoly(mask, cv2.convexHull(largest), 1)
    return mask if mask.mean() < 0.97 else np.ones_like(mask)
