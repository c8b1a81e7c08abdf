"""Image and mask files of every kind a clinic hands over, as plain arrays.

Nothing but pixels is taken from a file: no patient's name, no date, no thumbnail.
"""

import gzip
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from lib.images.checked_files import MAX_PIXELS, named_faults, opened, too_large
from lib.images.dicom import decode_dicom, has_dicom_signature
from lib.runtime.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".gif", ".dcm", ".dicom"}
)
"""Endings, in lower case, of the files that `read_image` reads."""


# The other formats of Pillow start programs or are seldom used: they are not opened.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF")


def read_image(path: Path) -> np.ndarray:
    """Read a photograph or angiogram as it is meant to be seen.

    EXIF orientation is applied. Transparency is laid over black, which is what surrounds a fundus
    image. More than 8 bits, and floating point, are scaled linearly from the image's own minimum
    and maximum to 0..255 (a constant image becomes 0). Colour profiles are not applied. DICOM
    images pass their modality and VOI tables, and MONOCHROME1 is inverted.

    Returns:
        uint8, (H, W) where the file is grey or its colour channels are equal, else (H, W, 3) RGB.

    Raises:
        UserError: no regular file, no image, damaged, too large, of several frames, or (DICOM)
            compressed in a way that needs another package.
    """
    with named_faults(path):
        pixels = _scaled_to_uint8(_read(path))
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask image: two levels or colours, of which black, else the darker, is background.

    An image of one colour is all background if it is black, else all foreground.

    Returns:
        uint8 (H, W) in {0, 1}.

    Raises:
        UserError: as `read_image`, and for more than two colours.
    """
    with named_faults(path):
        return _two_levels(_read(path))


def decode_mask(data: bytes, source: str) -> np.ndarray:
    """Like `read_mask`, from the bytes of an image file; `source` is named in errors."""
    with named_faults(source):
        return _two_levels(_decode(BytesIO(data)))


def _read(path: Path) -> np.ndarray:
    with opened(path) as stream:
        if path.suffix.lower() == ".gz":  # as STARE comes
            return _decode(_unpacked(stream))
        if has_dicom_signature(stream):
            return decode_dicom(path)
        if path.suffix.lower() in {".dcm", ".dicom"}:
            raise UserError("is no DICOM file; expected DICM at byte 128")
        return _decode(stream)


def _unpacked(stream: BinaryIO) -> BytesIO:
    """What a gzip file holds, up to a limit: a bomb is not unpacked whole."""
    with gzip.open(stream) as packed:
        data = packed.read(3 * MAX_PIXELS + 1)
    if len(data) > 3 * MAX_PIXELS:
        raise UserError(too_large())
    return BytesIO(data)


def _decode(stream: BinaryIO) -> np.ndarray:
    """(H, W) or (H, W, 3) RGB of any real dtype from an image that Pillow knows."""
    with Image.open(stream, formats=PILLOW_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(too_large())
        if image.tile and image.tile[0].codec_name == "bmp_rle":  # unpacked by a loop in Python
            raise UserError("is a run-length encoded BMP; save it as PNG")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a JPEG with a preview behind it
            raise UserError(f"has {frames} frames; export the one to be used as a single image")
        if _has_16_bit_colours(image):  # Pillow would keep the upper 8 bits alone
            stream.seek(0)
            return _decode_16_bit_colours(stream.read())
        return _channels(ImageOps.exif_transpose(image))


def _has_16_bit_colours(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})  # of TIFF
    planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    if planar and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))) > 8:  # decoded wrongly
        raise UserError("is a 16-bit TIFF of separate colour planes; export it as PNG")
    arguments = image.tile[0].args if image.tile else ""
    raw_mode = arguments if isinstance(arguments, str) else str(arguments[:1])
    return image.mode in {"RGB", "RGBA", "RGBX", "LA"} and ";16" in raw_mode


def _decode_16_bit_colours(data: bytes) -> np.ndarray:
    """Transparency is dropped here, not laid over black: OpenCV keeps 16 bits only without it."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError("is damaged, or a 16-bit kind that cannot be read; export it as PNG")
    return pixels[..., ::-1]


def _channels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))


def _scaled_to_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise UserError("has pixels that are NaN or infinite; export it as 8 or 16 bit")
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (pixels.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(scaled).astype(np.uint8)


def _two_levels(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3:  # each colour as one number
        red, green, blue = (pixels[..., c].astype(np.uint64) for c in range(3))
        pixels = red << 32 | green << 16 | blue
    levels = np.unique(pixels)
    if len(levels) > 2:
        raise UserError(
            f"has {len(levels)} levels, a mask has two; "
            "save it as PNG (not JPEG) without smoothing: 0 background, 255 foreground"
        )
    background = levels[0] if len(levels) == 2 else 0
    return (pixels != background).astype(np.uint8)
