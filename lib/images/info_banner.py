"""The information banner of clinical exports: a strip of text, often the patient's name.

Heidelberg exports carry one of 100 pixels on a square frame (768x868). It is cut off before anything
else sees the image.
"""

import cv2
import numpy as np

from lib.configuration.banner import Banner

_TURNS = {"top": 0, "bottom": 2, "left": 3, "right": 1}
"""Quarter turns (`numpy.rot90`) that bring a side to the top."""


def find_banner(image: np.ndarray) -> Banner | None:
    """Find a banner by its looks: thin writing on one level, with an empty margin, along a side.

    Its inner edge is where cutting leaves a square, else a straight edge across the image. What is
    only dark (the surround of a round field of view) or holds anything solid (retina) is no banner.

    Args:
        image: uint8 (H, W) or (H, W, 3).

    Returns:
        The strip that leaves a square, else the largest that looks like a banner; or None.
    """
    grey = image.max(axis=2) if image.ndim == 3 else image
    found: list[tuple[bool, int, str]] = []
    for side, turns in _TURNS.items():
        turned = np.rot90(grey, turns)
        excess = turned.shape[0] - turned.shape[1]
        found += [(False, s, side) for s in _straight_edges(turned) if _is_banner(turned[:s])]
        if excess > 0 and _is_banner_with_logo(turned[:excess]):
            found.append((True, excess, side))
    _, size, side = max(found, default=(False, 0, ""))
    return Banner(side, size) if size else None


def _straight_edges(grey: np.ndarray) -> list[int]:
    """Rows, in the first quarter, that differ from the row above over much of their length."""
    first = grey[: grey.shape[0] // 4 + 1].astype(np.int16)
    share = (np.abs(np.diff(first, axis=0)) > 15).mean(axis=1)
    return (np.flatnonzero(share > 0.3) + 1).tolist()


def _is_banner_with_logo(strip: np.ndarray) -> bool:
    """Whether it is a banner, with or without a maker's solid logo at either end."""
    logo = 5 * len(strip) // 4
    return any(_is_banner(part) for part in (strip, strip[:, logo:], strip[:, :-logo]))


def _is_banner(strip: np.ndarray) -> bool:
    """Whether a strip, its inner edge below, holds writing on a background of one level.

    The limits were set on 1 280 drawn banners and on 1 064 photographs and crops without one.
    """
    height, width = strip.shape
    if height < 16 or height > width / 2:
        return False
    background = int(np.bincount(strip.ravel(), minlength=256).argmax())
    difference = np.abs(strip.astype(np.int16) - background)
    if (difference <= 2).mean() < 0.6:
        return False
    differs = (difference > 24).mean(axis=1)
    margin = max(2, height // 30)  # JPEG mixes the last rows with the frame
    if max(differs[0], differs[-margin]) > 0.01 or differs[-1] > 0.3:
        return False
    writing = (difference > 40).astype(np.uint8)
    side = max(5, height // 8)  # wider than any stroke of the letters
    solid = cv2.morphologyEx(writing, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    areas = cv2.connectedComponentsWithStats(writing)[2][1:, cv2.CC_STAT_AREA]
    return bool(solid.mean() < 0.02 and (areas >= 5).sum() >= 4)  # letters, or pieces of them
