"""The overlay of a prediction without truth: mask and field of view over the angiogram, and a strip of text.

Drawn with Pillow: Matplotlib is not in requirements/inference.txt.
"""

import math

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib.images.outlines import AREA_COLOUR, FIELD_OF_VIEW_COLOUR, draw_outlines

SMALLEST_SIDE = 1024
"""Pixels of the longer side of the angiogram, and of the width of the whole picture, at least."""

FILL = 0.25
"""Opacity of the colour in the predicted areas."""

INK, GREY = (34, 34, 34), 115


def draw_prediction(
    original: np.ndarray,
    mask: np.ndarray,
    field_of_view: np.ndarray,
    *,
    threshold: float,
    share_column: str,
    pixel_spacing_mm: tuple[float, float] | None = None,
) -> np.ndarray:
    """Fill and outline the predicted areas; write legend, threshold, share and scale bar below the image.

    Args:
        original: (H, W) or (H, W, 3) uint8; enlarged if its longer side is below `SMALLEST_SIDE`.
        mask: (H, W) bool, inside the field of view.
        field_of_view: (H, W), not 0 inside.
        threshold: of the mask.
        share_column: name of the share of the field of view that is in the mask, e.g. "ischaemic_index".
        pixel_spacing_mm: height and width of a pixel of `original`; None: no scale bar.

    Returns:
        (H', W', 3) uint8.
    """
    pixels = np.count_nonzero(field_of_view)
    share = f"{100 * np.count_nonzero(mask) / pixels:.1f} %" if pixels else "n/a"
    caption = f"threshold {threshold:.4g} · {share_column.replace('_', ' ')} {share}"
    scale = max(1.0, SMALLEST_SIDE / max(original.shape[:2]))
    size = [round(length * scale) for length in original.shape[1::-1]]
    mask, inside = (
        cv2.resize(region.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for region in (mask, field_of_view)
    )
    picture = original if scale == 1 else cv2.resize(original, size, interpolation=cv2.INTER_CUBIC)
    picture = draw_outlines(picture, [])
    picture = np.where(mask[..., None] > 0, cv2.LUT(picture, _under_colour()), picture)
    picture = draw_outlines(picture, [(inside, FIELD_OF_VIEW_COLOUR), (mask, AREA_COLOUR)])
    side = max(0, SMALLEST_SIDE - picture.shape[1])
    picture = np.pad(picture, ((0, 0), (side // 2, side - side // 2), (0, 0)), constant_values=255)
    spacing = pixel_spacing_mm and (pixel_spacing_mm[0] / scale, pixel_spacing_mm[1] / scale)
    return np.concatenate([picture, _strip(picture.shape[1], caption, spacing)])


def _under_colour() -> np.ndarray:
    """(1, 256, 3) uint8: what each level becomes under the colour of the predicted areas."""
    levels = np.arange(256)[None, :, None]
    return np.rint((1 - FILL) * levels + FILL * np.array(AREA_COLOUR)).astype(np.uint8)


def _strip(width: int, caption: str, spacing_mm: tuple[float, float] | None) -> np.ndarray:
    """Legend, caption and scale bar on white, (h, width, 3) uint8; all sizes grow with `width`."""
    unit = width // 40  # height of the letters
    strip = Image.new("RGB", (width, 4 * unit), "white")
    draw, font, line = ImageDraw.Draw(strip), ImageFont.load_default(unit), max(2, unit // 10)
    x, y = unit, 5 * unit // 4
    fill = tuple(_under_colour()[0, GREY].tolist())
    draw.rectangle((x, y - unit // 2, x + 2 * unit, y + unit // 2), fill, AREA_COLOUR, line)
    draw.text((x + 2.5 * unit, y), "predicted area", INK, font, "lm")
    x += 12 * unit
    draw.line((x, y, x + 2 * unit, y), FIELD_OF_VIEW_COLOUR, line)
    draw.text((x + 2.5 * unit, y), "field of view", INK, font, "lm")
    draw.text((unit, 11 * unit // 4), caption, INK, font, "lm")
    if spacing_mm:
        height, row = spacing_mm
        length = _round_length(row * width / 5)
        label = f"{length:g} mm" + ("" if math.isclose(height, row, rel_tol=0.01) else " horizontally")
        end, y = width - unit, 11 * unit // 4
        start = end - round(length / row)
        draw.line((start, y, end, y), INK, line)
        for tick in (start, end):
            draw.line((tick, y - unit // 3, tick, y + unit // 3), INK, line)
        draw.text((end, 5 * unit // 4), label, INK, font, "rm")
    return np.asarray(strip)


def _round_length(longest: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is at most `longest`."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= longest)
