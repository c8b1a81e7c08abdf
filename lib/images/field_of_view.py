"""Detect the field of view: the part of an image inside the camera's round or elliptic aperture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from lib.runtime.errors import UserError

_SEARCH_SIDE = 512
"""Longest side in pixels of the reduced image in which the circle is found; then it is refined."""

_THRESHOLDS = (2, 4, 7, 11, 16, 24, 36, 54)
"""Grey levels that may separate the dark surround from the retina; the best circle of all is kept."""

_SUPPORT = 0.6
"""A circle is accepted if at least this share of its arc in the image is brighter inside than outside."""

_NEAR = 1.5
"""Largest distance, in the reduced image, of an aperture from a pixel of the outline that belongs to it."""

_ROUND = 0.97
"""Ratio of the axes from which an ellipse is taken for a circle, which covers 98 % of it."""

_SHARE_OF_ELLIPSE = (0.5, 0.65)
"""Smallest share of the outline that belongs to an ellipse, narrower and rounder than 0.9: noise in the
surround of a circular aperture also lies near some ellipse."""

_BETTER = 1.25
"""An ellipse is taken if so many times as many pixels of the outline belong to it as to the best circle."""

_LEAST_SIDE = 8
"""Shorter side in pixels of the smallest reduced image in which an aperture is searched: `_outermost` leaves
out three pixels at each border, and three points on one line have no circle."""

_LEAST_SHARE = 0.04
"""Smallest share of an image that is taken for a field of view.

Those of DRIVE, STARE, CHASE_DB1 and huapu4/FFA cover 65 to 82 %; the smallest aperture that is searched
covers 5 % of an image of 16:9. The largest bright region of a dark image may be text or a light of the
camera. If it were resampled to `field_of_view_diameter`, the image would have hundreds of megapixels; with
this limit it has at most 25 times the square of the diameter.
"""


def _length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """As `np.hypot`, which takes three times as long."""
    return np.sqrt(x * x + y * y)


@dataclass(frozen=True)
class _Circle:
    x: float
    y: float
    radius: float

    @staticmethod
    def fitted(points: np.ndarray) -> "_Circle":
        """Algebraic fit: x^2 + y^2 = 2 a x + 2 b y + c (Kasa, IEEE Trans. Instrum. Meas. 25, 1976)."""
        middle = points.mean(axis=0)
        centred = points - middle
        unknowns = np.column_stack([2 * centred, np.ones(len(points))])
        (a, b, c), *_ = np.linalg.lstsq(unknowns, (centred**2).sum(axis=1), rcond=None)
        return _Circle(middle[0] + a, middle[1] + b, float(np.sqrt(c + a**2 + b**2)))

    def beside(self, angles: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X and y of the points at `offsets` outside the circle."""
        return (
            self.x + (self.radius + offsets) * np.cos(angles),
            self.y + (self.radius + offsets) * np.sin(angles),
        )

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance of each point from the circle in pixels, negative inside."""
        return _length(x - self.x, y - self.y) - self.radius

    def scaled(self, factor: float) -> "_Circle":
        """This circle in an image that is `factor` times as large (pixel centres at whole numbers)."""
        x, y = ((c + 0.5) * factor - 0.5 for c in (self.x, self.y))
        return _Circle(x, y, self.radius * factor)


@dataclass(frozen=True)
class _Ellipse:
    """An ellipse with semi-axes `a` and `b`; `a` is turned by `angle` (radians) from the x axis."""

    x: float
    y: float
    a: float
    b: float
    angle: float

    @staticmethod
    def fitted(points: np.ndarray) -> "_Ellipse":
        """Direct least squares (Fitzgibbon, Pilu and Fisher, IEEE Trans. PAMI 21(5), 1999)."""
        (x, y), (width, height), degrees = cv2.fitEllipseDirect(points.astype(np.float32))
        return _Ellipse(x, y, width / 2, height / 2, float(np.deg2rad(degrees)))

    @property
    def radius(self) -> float:
        """Radius of the circle of the same area."""
        return float(np.sqrt(self.a * self.b))

    def beside(self, angles: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X and y of the points of the ellipses whose semi-axes are longer by `offsets`."""
        u, v = (self.a + offsets) * np.cos(angles), (self.b + offsets) * np.sin(angles)
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return self.x + cosine * u - sine * v, self.y + sine * u + cosine * v

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance of each point from the ellipse to first order (Sampson) in pixels, negative inside."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        u = (cosine * (x - self.x) + sine * (y - self.y)) / self.a
        v = (cosine * (y - self.y) - sine * (x - self.x)) / self.b
        with np.errstate(divide="ignore"):
            return (u**2 + v**2 - 1) / (2 * np.hypot(u / self.a, v / self.b))

    def scaled(self, factor: float) -> "_Ellipse":
        """As `_Circle.scaled`."""
        x, y = ((c + 0.5) * factor - 0.5 for c in (self.x, self.y))
        return replace(self, x=x, y=y, a=self.a * factor, b=self.b * factor)


_Aperture = _Circle | _Ellipse


def detect_field_of_view(image: np.ndarray, file: Path | None = None) -> np.ndarray:
    """Find the aperture, which the image border or a straight edge may cut; else the full image.

    A threshold is not enough: non-perfused areas at the border are as dark as the surround.
    Circles are fitted to the outermost bright pixels by random sample consensus (RANSAC; Fischler
    and Bolles, Commun. ACM 24(6), 1981). The circle with the highest contrast along its arc is kept
    and fitted to the steepest decrease of brightness. Ultra-wide-field cameras and stretched images have
    an elliptic aperture: an ellipse is taken if it has clearly more contrast along its arc than the best
    circle. If there is neither, the result is the convex hull of the bright pixels, or the full image
    if the hull covers nearly all of it. In a very narrow image, no aperture is searched.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        file: named in the error.

    Returns:
        uint8 (H, W) in {0, 1}; all 0 for a black image, all 1 for any other constant image.

    Raises:
        UserError: two fields of view are beside each other, as in exports of FFA and ICG in one picture; or
            only a mark in a dark image was found.
    """
    grey = image.max(axis=2) if image.ndim == 3 else image
    if grey.min() == grey.max():
        return np.full(grey.shape, grey.max() > 0, np.uint8)
    name = file or "the image"
    field_of_view = _aperture_or_hull(cv2.medianBlur(np.ascontiguousarray(grey), 3), name)
    if 0 < field_of_view.mean() < _LEAST_SHARE:
        width, height = cv2.boundingRect(field_of_view)[2:]
        raise UserError(
            f"{name}: its field of view is only {width}x{height} pixels of {grey.shape[1]}x{grey.shape[0]} "
            f"(text or a light in a dark image?); expected at least {100 * _LEAST_SHARE:g} % of the image: "
            "leave it out, or crop it to the retina"
        )
    return field_of_view


def _aperture_or_hull(grey: np.ndarray, name: Path | str) -> np.ndarray:
    """As `detect_field_of_view`, of an image (H, W) without noise; `name` is named in the error."""
    factor = max(1.0, max(grey.shape) / _SEARCH_SIDE)
    if min(grey.shape) < _LEAST_SIDE * factor:
        return _hull(grey)
    small = cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    if _shows_two_fields(small):
        raise UserError(f"{name}: shows two fields of view beside each other; save each as its own image")
    aperture = _best_aperture(small)
    if aperture is None:
        return _hull(grey)
    aperture = _refined(grey, aperture.scaled(factor))
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    inside = aperture.distance(columns, rows) <= 0
    return _cut_straight(grey, inside).astype(np.uint8)


def _shows_two_fields(grey: np.ndarray) -> bool:
    """Whether left and right, or upper and lower part each show an aperture, or a strip parts them."""
    for turned in (grey, grey.T):
        if _strip_parts(turned):
            return True
        for column in _possible_gaps(turned):
            parts = [np.ascontiguousarray(part) for part in (turned[:, :column], turned[:, column:])]
            if all(_lies_within(_best_aperture(part), part.shape) for part in parts):
                return True
    return False


def _strip_parts(grey: np.ndarray) -> bool:
    """Whether the edge of a strip of one level is in the middle of a wide image, with retina on both sides.

    Three quarters of the rows have the step of the edge; a straight vessel and a dark area have it in fewer.
    Two fields that touch are found only if they differ in most rows.
    """
    rows, columns = grey.shape
    if columns < 1.6 * rows:
        return False
    steps = np.percentile(cv2.absdiff(grey[:, 2:], grey[:, :-2]), 25, axis=0)
    middle = steps[int(0.45 * columns) : int(0.55 * columns)]
    halves = zip(np.array_split(steps, 2), np.array_split(grey, 2, axis=1), strict=True)
    dark = 0.15 * np.percentile(grey, 95)
    retina = all(np.percentile(own, 75) > 0 and np.median(levels) > dark for own, levels in halves)
    return bool(retina and middle.max() > 8 * np.percentile(steps, 90) + 8)


def _possible_gaps(grey: np.ndarray) -> list[int]:
    """Columns that may part two fields: the middle of a wide image, and that between two bright regions."""
    rows, columns = grey.shape
    gaps = [columns // 2] if columns >= 1.6 * rows else []
    bright = (grey > max(8, 0.15 * float(np.percentile(grey, 95)))).astype(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    regions = cv2.connectedComponentsWithStats(opened)[2][1:]
    largest = sorted(regions.tolist(), key=lambda region: -region[cv2.CC_STAT_AREA])[:2]
    if len(largest) == 2 and 3 * largest[1][cv2.CC_STAT_AREA] > largest[0][cv2.CC_STAT_AREA]:
        left, right = sorted(largest)
        end = left[cv2.CC_STAT_LEFT] + left[cv2.CC_STAT_WIDTH]
        if end <= right[cv2.CC_STAT_LEFT]:
            gaps.append((end + right[cv2.CC_STAT_LEFT]) // 2)
    return [gap for gap in gaps if columns // 5 < gap < columns - columns // 5]


def _lies_within(aperture: _Aperture | None, shape: tuple[int, ...]) -> bool:
    """Whether the centre is in the middle half and the aperture exceeds the image by little."""
    if aperture is None:
        return False
    rows, columns = shape
    central = 0.25 < aperture.x / columns < 0.75 and 0.25 < aperture.y / rows < 0.75
    return central and 2 * aperture.radius < 1.2 * min(shape)


def _best_aperture(grey: np.ndarray) -> _Aperture | None:
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.5).astype(np.float32)
    outlines, side = [_outermost(grey > t) for t in _THRESHOLDS], min(grey.shape)
    circle, outline = _best_supported(smooth, outlines, [_consensus(points, side) for points in outlines])
    if circle and _BETTER * _share_near(circle, outline) > 1:  # no ellipse can explain more
        return circle
    ellipses = [_consensus_of_ellipses(points, side) for points in outlines]
    ellipse, outline = _best_supported(smooth, outlines, ellipses)
    if not isinstance(ellipse, _Ellipse) or circle is None:
        return ellipse or circle
    rounder = min(ellipse.a, ellipse.b) > 0.9 * max(ellipse.a, ellipse.b)
    needed = max(_SHARE_OF_ELLIPSE[rounder], _BETTER * _share_near(circle, outline))
    return ellipse if _share_near(ellipse, outline) > needed else circle


def _best_supported(
    smooth: np.ndarray, outlines: Sequence[np.ndarray], candidates: Sequence[_Aperture | None]
) -> tuple[_Aperture | None, np.ndarray]:
    """The best candidate, one for each outline, or None if the support of all is too low; and its outline."""
    supports = [_support(smooth, c) if c else 0.0 for c in candidates]
    # Among similar supports take the lowest threshold: higher ones may follow a shadow inside.
    best = next(i for i, support in enumerate(supports) if support > max(supports) - 0.03)
    return candidates[best] if max(supports) >= _SUPPORT else None, outlines[best]


def _share_near(aperture: _Aperture, outline: np.ndarray) -> float:
    return float((np.abs(aperture.distance(*outline.T)) < _NEAR).mean())


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
    near = np.abs(_length(points[:, 0] - x, points[:, 1] - y) - radius) < _NEAR
    best = near[near.sum(axis=1).argmax()]
    return _Circle.fitted(points[best]) if best.sum() >= 20 else None


def _through(triples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and radii of the circles through (N, 3, 2) points; infinite for points on a line."""
    first = triples[:, 0]
    (ax, ay), (bx, by) = (triples[:, 1] - first).T, (triples[:, 2] - first).T
    with np.errstate(divide="ignore", invalid="ignore"):
        twice_area = 2 * (ax * by - ay * bx)
        x = (by * (ax**2 + ay**2) - ay * (bx**2 + by**2)) / twice_area
        y = (ax * (bx**2 + by**2) - bx * (ax**2 + ay**2)) / twice_area
    return first[:, 0] + x, first[:, 1] + y, np.hypot(x, y)


def _consensus_of_ellipses(points: np.ndarray, side: int) -> _Ellipse | None:
    """The ellipse near most points, neither small nor narrow (RANSAC), fitted to these points.

    Six points of one ellipse are rarer by chance than three of one circle; so they are drawn from the points
    at the convex hull, which a dark area at the border does not reach.
    """
    if len(points) < 20:
        return None
    random = np.random.default_rng(0)
    points = random.permutation(points)[:600]
    hull = cv2.convexHull(points.astype(np.float32))
    outer = np.array([cv2.pointPolygonTest(hull, point, True) < 1.5 for point in points])
    if outer.sum() < 6:
        return None
    best, most = None, 19
    for six in random.choice(np.flatnonzero(outer), (200, 6)):
        ellipse = _Ellipse.fitted(points[six])
        for _ in range(3):  # six points alone fix it badly: fit it to those near it
            if not _is_plausible(ellipse, side):
                break
            near = np.abs(ellipse.distance(*points.T)) < _NEAR
            if near.sum() <= most:
                break
            best, most = ellipse, near.sum()
            ellipse = _Ellipse.fitted(points[near])
    return best


def _is_plausible(ellipse: _Ellipse, side: int) -> bool:
    """Neither small, nor narrow, nor so round that a circle describes it: then the circle is more certain."""
    short, long = sorted((ellipse.a, ellipse.b))
    return bool(side / 6 < short and long < 2 * side and 0.4 * long < short < _ROUND * long)


def _support(smooth: np.ndarray, aperture: _Aperture) -> float:
    """Share of the arc in the image that is brighter inside than outside; 0 if the outside is not dark."""
    rows, columns = np.ogrid[: smooth.shape[0], : smooth.shape[1]]
    distance = aperture.distance(columns, rows)
    outside, inside = smooth[distance > 4], smooth[distance < 0]
    if outside.size < 50 or not inside.size:
        return 0.0
    if np.percentile(outside, 95) > 0.5 * np.percentile(inside, 75):
        return 0.0
    step = max(3.0, 0.012 * aperture.radius)
    profiles = _radial(smooth, aperture, np.array([-step, step]))
    profiles = profiles[np.isfinite(profiles).all(axis=1)]
    if len(profiles) < 36:  # of 720: too little of the circle is in the image
        return 0.0
    noise = 1.5 * np.median(np.abs(outside - np.median(outside)))
    return float((profiles[:, 0] - profiles[:, 1] > max(1.0, 2 * noise)).mean())


def _radial(grey: np.ndarray, aperture: _Aperture, offsets: np.ndarray) -> np.ndarray:
    """float32 (720, K): levels at `offsets` from the circle, every half degree; NaN outside the image."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[:, None]
    x, y = (c.astype(np.float32) for c in aperture.beside(angles, offsets))
    levels, border = grey.astype(np.float32), cv2.BORDER_CONSTANT
    return cv2.remap(levels, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=float("nan"))


def _refined(grey: np.ndarray, aperture: _Aperture) -> _Aperture:
    """Least-squares fit through the steepest decrease along each ray; outliers are rejected twice."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    reach = max(4.0, 0.015 * aperture.radius)
    offsets = np.linspace(-reach, reach, 4 * int(reach) + 1)
    decreases = -np.diff(_radial(smooth, aperture, offsets), axis=1)
    inside = np.isfinite(decreases).all(axis=1)
    steepest = decreases[inside].argmax(axis=1)
    strength = decreases[inside].max(axis=1)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)[inside]
    steps = offsets[steepest] + (offsets[1] - offsets[0]) / 2
    points = np.column_stack(aperture.beside(angles, steps))
    points = points[strength > 0.3 * np.median(strength)]
    for _ in range(2):
        aperture = aperture.fitted(points)
        residuals = np.abs(aperture.distance(*points.T))
        points = points[residuals <= max(1.0, 2.5 * np.median(residuals))]
    return aperture


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
