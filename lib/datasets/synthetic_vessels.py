"""Vessel trees of synthetic angiograms: grow them and draw them.

Lengths are fractions of the image's side; positions are (x, y).
"""

from dataclasses import dataclass

import cv2
import numpy as np

FOVEAL_AVASCULAR_RADIUS = 0.042

Points = np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """Positions (x, y) of landmarks; `temporal` is +1 if the macula is right of the disc, else -1."""

    disc: np.ndarray
    fovea: np.ndarray
    temporal: int


@dataclass(frozen=True)
class Vessels:
    """A vessel tree: segment i connects node `parent[i]` (-1 for roots) with node i."""

    position: np.ndarray  # (N, 2)
    parent: np.ndarray  # (N,)
    radius: np.ndarray  # (N,)


def _trunks(rng: np.random.Generator, anatomy: Anatomy) -> list[Points]:
    """Bezier curves that start at the disc: arcades around the macula, nasal and macular vessels."""
    templates = [  # control points from the disc: x in temporal direction, y away from the macula
        [(0.02, 0.15), (0.22, 0.36), (0.80, 0.12)],
        [(0.00, 0.15), (0.02, 0.30), (0.20, 0.60)],
        [(-0.04, 0.08), (-0.12, 0.20), (-0.30, 0.45)],
        [(-0.08, 0.01), (-0.20, 0.05), (-0.45, 0.14)],
        [(0.05, 0.02), (0.12, 0.06), (0.20, 0.08)],
    ]
    t = np.linspace(0, 1, 160)[:, None]
    trunks = []
    for template in templates:
        for up in (-1, 1):
            control = np.array([(0.0, 0.0), *template]) * [anatomy.temporal, up]
            spread = 0.009 + 0.13 * np.linalg.norm(control, axis=1, keepdims=True)
            a, b, c, d = anatomy.disc + control + spread * rng.normal(0, 1, (4, 2))
            trunks.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d)
    return trunks


def vessel_tree(rng: np.random.Generator, anatomy: Anatomy, calibre: float) -> Vessels:
    """Grow branches from the trunks into retina without vessels (space colonisation).

    Space colonisation: Runions et al. 2005 (leaf venation). As in Murray's law, the sum of a power of the
    radii is constant at each branching (here 2.3, for thin twigs; Murray: 3).
    """
    trunks = _trunks(rng, anatomy)
    position = np.concatenate(trunks)
    parent = np.arange(len(position)) - 1
    parent[:: len(trunks[0])] = -1
    for number, reach in ((40, 0.30), (150, 0.13), (550, 0.07)):
        radius = 0.53 * np.sqrt(rng.uniform(0, 1, number))
        angle = rng.uniform(0, 2 * np.pi, number)
        unsupplied = 0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        foveal = np.linalg.norm(unsupplied - anatomy.fovea, axis=1) < 1.1 * FOVEAL_AVASCULAR_RADIUS
        position, parent = _colonise(position, parent, unsupplied[~foveal], anatomy.disc, reach)
    for _ in range(4):  # make bends round
        position = np.where(parent[:, None] < 0, position, (position + position[parent]) / 2)
    flow = np.full(len(parent), 0.012)
    flow[np.setdiff1d(np.arange(len(parent)), parent)] += 1
    for node in range(len(parent) - 1, -1, -1):  # parents have lower indices than children
        if parent[node] >= 0:
            flow[parent[node]] += flow[node]
    for scale, amplitude in ((0.12, 0.008), (0.04, 0.0022)):  # make vessels tortuous
        noise = [smooth_noise(rng, 256, scale) for _ in range(2)]
        column, row = np.clip(position * 256, 0, 255).astype(int).T
        position = position + amplitude * np.stack([w[row, column] for w in noise], axis=1)
    return Vessels(position, parent, np.minimum(calibre * flow ** (1 / 2.3), 0.0055))


def _colonise(
    position: Points, parent: np.ndarray, unsupplied: Points, disc: Points, reach: float, step: float = 0.006
) -> tuple[Points, np.ndarray]:
    """Add nodes step by step towards the unsupplied points within `reach` of the tree."""
    heading = np.where(parent[:, None] < 0, 0, _unit(position - position[parent]))
    gap = np.linalg.norm(unsupplied[:, None] - position[None], axis=2)
    owner, gap = gap.argmin(axis=1), gap.min(axis=1)
    while True:
        near = (gap < reach) & (gap > 1.5 * step)
        if not near.any():
            return position, parent
        unsupplied, owner, gap = unsupplied[near], owner[near], gap[near]
        tips, pulled = np.unique(owner, return_inverse=True)
        pull = np.zeros((len(tips), 2))
        np.add.at(pull, pulled, (unsupplied - position[owner]) / gap[:, None])
        pull = _unit(_unit(pull) + 0.7 * heading[tips] + 0.4 * _unit(position[tips] - disc))
        first = len(position)
        position = np.concatenate([position, position[tips] + step * pull])
        parent = np.concatenate([parent, tips])
        heading = np.concatenate([heading, pull])
        new = np.linalg.norm(unsupplied[:, None] - position[None, first:], axis=2)
        closer = new.min(axis=1) < gap - 1e-3 * step  # drop points that no step comes closer to
        owner, gap = first + new.argmin(axis=1)[closer], new.min(axis=1)[closer]
        unsupplied = unsupplied[closer]


def _unit(vectors: Points) -> Points:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def draw_vessels(trees: list[Vessels], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw large vessels and twigs with smooth edges: two (size, size) float64 in [0, 1]."""
    magnified, fraction_bits = 3 * size, 4
    canvases = [np.zeros((magnified, magnified), np.uint8) for _ in range(2)]
    for tree in trees:
        for node in np.argsort(tree.radius, kind="stable"):  # thick segments over thin ones
            radius, parent = tree.radius[node], tree.parent[node]
            if parent >= 0:
                start, end = np.rint(tree.position[[parent, node]] * magnified * 2**fraction_bits)
                brightness = round(85 + 170 * min(1, radius / 0.0040))
                thickness = max(1, round(2 * radius * magnified))
                ends = (start.astype(int).tolist(), end.astype(int).tolist())
                canvas = canvases[0 if radius > 0.0014 else 1]
                cv2.line(canvas, *ends, brightness, thickness, cv2.LINE_AA, fraction_bits)
    shape = (size, size)
    large, fine = (cv2.resize(c / 255, shape, interpolation=cv2.INTER_AREA) for c in canvases)
    return large, fine


def smooth_noise(rng: np.random.Generator, size: int, period: float) -> np.ndarray:
    """Cubically interpolated noise of standard deviation near 1: (size, size) float64."""
    cells = int(np.ceil(1 / period)) + 3
    coarse = rng.normal(0, 1.3, (cells, cells))
    whole = round(cells * period * size)
    start = rng.integers(0, whole - size + 1, 2)
    smooth = cv2.resize(coarse, (whole, whole), interpolation=cv2.INTER_CUBIC)
    return smooth[start[0] : start[0] + size, start[1] : start[1] + size]
