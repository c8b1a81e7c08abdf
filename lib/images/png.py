"""Write arrays as PNG files."""

from pathlib import Path

import cv2
import numpy as np

from lib.runtime.atomic_files import written_atomically

COMPRESSION = 3
"""PNG compression level: a third of the time of Pillow's 6; files of angiograms are not larger."""


def write_png(path: Path, array: np.ndarray) -> None:
    """Write a PNG file atomically; `encode_png` lists the arrays that can be written.

    Raises:
        UserError: the file cannot be written.
    """
    with written_atomically(path) as (beside,):
        beside.write_bytes(encode_png(array))


def encode_png(array: np.ndarray) -> bytes:
    """The content of a PNG file of uint8 or uint16 grey (H, W), or uint8 RGB (H, W, 3).

    Raises:
        ValueError: an array of another dtype or shape.
        OSError: a PNG file cannot have so many pixels.
    """
    rgb = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not rgb and not (array.ndim == 2 and array.dtype in (np.uint8, np.uint16)):
        raise ValueError(
            f"expected uint8 (H, W) or (H, W, 3), or uint16 (H, W); found {array.dtype} {array.shape}"
        )
    # OpenCV releases the GIL while it encodes; Pillow does not.
    strategy = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    settings = (cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION, *strategy)
    encoded, data = cv2.imencode(".png", array[..., ::-1] if rgb else array, settings)
    if not encoded:
        raise OSError(f"no PNG can hold {array.shape[1]} x {array.shape[0]} pixels")
    return data.tobytes()
