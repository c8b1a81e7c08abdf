"""The field of view: what the camera's round aperture let through, not its dark surround."""

from dataclasses import dataclass

import cv2
import numpy as np

_SEARCH_SIDE = 512
"""The circle is searched for on an image of at most this many pixels a side, then refined."""

_THRESHOLDS = (2, 4, 7, 11, 16, 24, 36, 54)
"""Grey levels that may part the surround from a dark retina; the best circle of all is kept."""

_SUPPORT = 0.6
"""A circle counts as found if this share of its arc in the frame is brighter inside than outside."""


@dataclass(frozen=True)
class _Circle:
    x: float
    y: float
    radius: float

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How far each point lies outside the circle (negative: inside), in pixels."""
        return np.hypot(x - self.x, y - self.y) - self.radius

    def scaled(self, factor: float) -> "_Circle":
        """The same circle in an image `factor` times as large (pixel centres at whole numbers)."""
        x, y = ((c + 0.5) * factor - 0.5 for c in (self.x, self.y))
        return _Circle(x, y, self.radius * factor)


def detect_field_of_view(image: np.ndarray) -> np.ndarray:
    """Find the circular aperture, also where the frame or a straight edge cuts it, or the full frame.

    A threshold alone would leak into non-perfused areas at the border, as dark as the surround.
    So circles are fitted to the outermost bright pixels by random sample consensus (Fischler and
    Bolles, Commun. ACM 24(6), 1981), the one with most contrast along its arc is kept, and moved to
    the steepest fall of brightness. Without a circle, the convex hull of the bright pixels is taken,
    or the full frame where that is nearly all of it.

    Args:
        image: uint8 (H, W) or (H, W, 3).

    Returns:
        uint8 (H, W) in {0, 1}; all 0 for a black image, all 1 for another constant one.
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
    # Of equals the lowest threshold: the higher ones may follow a shadow inside.
    return next(c for c, s in zip(candidates, supports, strict=True) if s > max(supports) - 0.03)


def _outermost(bright: np.ndarray) -> np.ndarray:
    """First and last bright pixel of each row and column, not at the frame: float64 (K, 2), x, y."""
    opened = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    points = []
    for lines in (opened, opened.T):
        filled = np.flatnonzero(lines.any(axis=1))
        ends = lines.shape[1] - 1 - lines[filled, ::-1].argmax(axis=1)
        both = [np.stack([e, filled], axis=1) for e in (lines[filled].argmax(axis=1), ends)]
        points.append(np.concatenate(both)[:, :: 1 if lines is opened else -1])
    points = np.concatenate(points)
    margin, size = 3, np.array(bright.shape[::-1])
    return points[((points >= margin) & (points < size - margin)).all(axis=1)].astype(float)


def _consensus(points: np.ndarray, side: int) -> _Circle | None:
    """The circle through most points, of a diameter between half and twice the shorter side."""
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
    """Share of the arc in the frame that is brighter inside, 0 if what lies outside is not dark."""
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
    if len(profiles) < 36:  # of 720: the frame shows too little of the circle
        return 0.0
    noise = 1.5 * np.median(np.abs(outside - np.median(outside)))
    return float((profiles[:, 0] - profiles[:, 1] > max(1.0, 2 * noise)).mean())


def _radial(grey: np.ndarray, circle: _Circle, offsets: np.ndarray) -> np.ndarray:
    """float32 (720, K): levels at `offsets` from the circle, every half degree; NaN off the frame."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[:, None]
    x = (circle.x + (circle.radius + offsets) * np.cos(angles)).astype(np.float32)
    y = (circle.y + (circle.radius + offsets) * np.sin(angles)).astype(np.float32)
    off_frame = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": float("nan")}
    return cv2.remap(grey.astype(np.float32), x, y, cv2.INTER_LINEAR, **off_frame)


def _refined(grey: np.ndarray, circle: _Circle) -> _Circle:
    """Least squares through the steepest fall along each ray, outliers rejected twice."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    reach = max(4.0, 0.015 * circle.radius)
    offsets = np.linspace(-reach, reach, 4 * int(reach) + 1)
    falls = -np.diff(_radial(smooth, circle, offsets), axis=1)
    seen = np.isfinite(falls).all(axis=1)
    steepest = falls[seen].argmax(axis=1)
    found = offsets[steepest] + (offsets[1] - offsets[0]) / 2
    strength = falls[seen, :].max(axis=1)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[seen]
    radius = circle.radius + found
    points = np.column_stack(
        [circle.x + radius * np.cos(angles), circle.y + radius * np.sin(angles)]
    )
    points = points[strength > 0.3 * np.median(strength)]
    for _ in range(2):
        circle = _least_squares(points)
        away = np.abs(circle.distance(*points.T))
        points = points[away <= max(1.0, 2.5 * np.median(away))]
    return circle


def _cut_straight(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Cut off the circle what lies dark beyond a straight edge at the top, left, bottom or right.

    Across such an edge most pixels of a chord become twice as bright within four rows; the retina's
    own shading, and non-perfused areas, do neither.
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
    """Convex hull of the largest bright region; the full frame if it leaves nearly nothing out."""
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    threshold = min(float(np.percentile(rim, 5)) + 3, 0.25 * float(np.percentile(grey, 90)))
    bright = (grey > threshold).astype(np.uint8)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(grey.shape, np.uint8)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.fillConvexPoly(mask, cv2.convexHull(largest), 1)
    return mask if mask.mean() < 0.97 else np.ones_like(mask)
