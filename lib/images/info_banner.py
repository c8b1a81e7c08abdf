"""Find the information banner of clinical exports: a strip of text, often with the patient's name.

Heidelberg exports have a strip of 100 pixels below a square image (768x868).
"""

from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from lib.configuration.banner import Banner
from lib.images.checked_files import dicom_functions
from lib.runtime.errors import UserError

_TURNS = {"top": 0, "bottom": 2, "left": 3, "right": 1}
"""Number of quarter turns (`numpy.rot90`) that move a side to the top."""

_DARKEST_WIPED = 12
"""Grey level from which a strip of one level is no surround of the field of view."""


def with_strip(array: np.ndarray, banner: Banner) -> np.ndarray:
    """An array without the strip, (H, W) or (H, W, C), with zeros in place of the strip."""
    margins = [(0, 0)] * array.ndim
    axis = 0 if banner.side in {"top", "bottom"} else 1
    margins[axis] = (banner.size, 0) if banner.side in {"top", "left"} else (0, banner.size)
    return np.pad(array, margins)


def banner_to_cut(image: np.ndarray, file: Path, setting: Literal["auto"] | Banner | None) -> Banner | None:
    """The strip to cut off before an image is used, by the setting [preparation] info_banner.

    Preparation, prediction and the web page follow this one rule.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        file: the file that the image was read from.
        setting: "auto" searches for a banner; a `Banner` or None is the user's own decision.

    Raises:
        UserError: "auto" finds no banner, but the header of the DICOM file says that text is burned in.
    """
    if setting != "auto":
        return setting
    banner = find_banner(image)
    if banner is None and _says_burned_in(file):
        raise UserError(
            f"{file}: its header says that text is burned into the image (BurnedInAnnotation = YES), maybe "
            "the patient's name, and no banner was found; look at it, then set [preparation] info_banner = "
            "bottom:N (or top, left, right), or none; or save it as PNG without the text"
        )
    return banner


def _says_burned_in(file: Path) -> bool:
    dicom = dicom_functions(file)
    return dicom is not None and dicom.has_burned_in_annotation(file)


def find_banner(image: np.ndarray) -> Banner | None:
    """Find a strip along one side with thin text on a background of one grey level and an empty margin.

    A strip that was wiped, so that it has one grey level other than black and no text, is also a banner.
    Its inner edge is where the rest of the image is square, else a straight edge across the image. A
    strip that is only dark (surround of the field of view) or has solid regions (retina) is no banner.

    Args:
        image: uint8 (H, W) or (H, W, 3).

    Returns:
        The strip that leaves a square image, else the largest one that looks like a banner; or None.
    """
    grey = image.max(axis=2) if image.ndim == 3 else image
    found: list[tuple[bool, int, str]] = []
    for side, turns in _TURNS.items():
        turned = np.rot90(grey, turns)
        excess = turned.shape[0] - turned.shape[1]
        found += [(False, s, side) for s in _straight_edges(turned) if _is_banner(turned[:s])]
        wiped = (s for s in _straight_edges(turned) if _is_wiped(turned, s))
        found += [(False, s, side) for s in islice(wiped, 1)]  # later edges lie in the retina
        if excess > 0 and _is_banner_with_logo(turned[:excess]):
            found.append((True, excess, side))
    _, size, side = max(found, default=(False, 0, ""))
    return Banner(side, size) if size else None


def _straight_edges(grey: np.ndarray) -> list[int]:
    """Rows in the first quarter of which more than 30 % of the pixels differ from the row above."""
    first = grey[: grey.shape[0] // 4 + 1].astype(np.int16)
    share = (np.abs(np.diff(first, axis=0)) > 15).mean(axis=1)
    return (np.flatnonzero(share > 0.3) + 1).tolist()


def _is_banner_with_logo(strip: np.ndarray) -> bool:
    """Whether a strip is a banner, with or without the solid logo of a manufacturer at one end."""
    logo = 5 * len(strip) // 4
    return any(_is_banner(part) for part in (strip, strip[:, logo:], strip[:, :-logo]))


def _is_wiped(grey: np.ndarray, size: int) -> bool:
    """Whether the first `size` rows have one grey level, which the rows behind them do not continue.

    The dark surround of an aperture continues at both ends of these rows.
    """
    if size < 16:
        return False
    strip = grey[: size - max(2, size // 30)].astype(np.int16)  # JPEG blends the last rows with the image
    level = int(np.median(strip))
    if level < _DARKEST_WIPED or (np.abs(strip - level) > 3).mean() > 0.002:
        return False
    behind = grey[size + 2 : size + 6].astype(np.int16)
    width = max(1, behind.shape[1] // 20)
    ends = (behind[:, :width], behind[:, -width:])
    return bool(behind.size) and all(abs(np.median(end) - level) > 8 for end in ends)


def _is_banner(strip: np.ndarray) -> bool:
    """Whether a strip, its inner edge at the bottom, has text on a background of one grey level.

    The limits were chosen on 1 280 synthetic banners and on 1 064 photographs and crops without one.
    """
    height, width = strip.shape
    if height < 16 or height > width / 2:
        return False
    background = int(np.bincount(strip.ravel(), minlength=256).argmax())
    difference = np.abs(strip.astype(np.int16) - background)
    if (difference <= 2).mean() < 0.6:
        return False
    differs = (difference > 24).mean(axis=1)
    margin = max(2, height // 30)  # JPEG blends the last rows with the image
    if max(differs[0], differs[-margin]) > 0.01 or differs[-1] > 0.3:
        return False
    text = (difference > 40).astype(np.uint8)
    side = max(5, height // 8)  # wider than the strokes of letters
    solid = cv2.morphologyEx(text, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    areas = cv2.connectedComponentsWithStats(text)[2][1:, cv2.CC_STAT_AREA]
    return bool(solid.mean() < 0.02 and (areas >= 5).sum() >= 4)  # letters or parts of letters
