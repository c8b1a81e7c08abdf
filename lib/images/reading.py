"""Read image and mask files of all formats that clinics use, as arrays.

Only the pixels of a file are used: no patient's name, no date, no thumbnail.
"""

import gzip
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from lib.images.checked_files import (
    MAX_PIXELS,
    TOO_LARGE,
    errors_naming,
    has_dicom_signature,
    open_regular_file,
)
from lib.runtime.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".gif", ".dcm", ".dicom"}
)
"""File name extensions, in lower case, that `read_image` reads."""

# Pillow's other formats are not opened: they start other programs or are rarely used.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF")


def read_image(path: Path) -> np.ndarray:
    """Read a photograph or angiogram as a viewer shows it.

    EXIF orientation is applied. Transparent pixels are blended with black, the surround of a fundus
    image. More than 8 bits, and floating point, are scaled linearly from the image's own minimum
    and maximum to 0..255 (a constant image becomes 0). Colour profiles are not applied. The modality
    and VOI tables of DICOM are applied, and MONOCHROME1 is inverted.

    Returns:
        uint8, (H, W) if the file is grey or its colour channels are equal, else (H, W, 3) RGB.

    Raises:
        UserError: not a regular file, not an image, damaged, too large, several frames, or (DICOM)
            compressed in a way that needs another package.
    """
    with errors_naming(path):
        pixels = _scaled_to_uint8(_read(path))
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask image of two levels or colours; the background is black, or else the darker one.

    An image of one colour is background if it is black, else foreground.

    Returns:
        uint8 (H, W) in {0, 1}.

    Raises:
        UserError: as `read_image`, and if there are more than two colours, NaN, or a mask that its
            transparency hides.
    """
    with errors_naming(path):
        mask = _two_levels(_read(path))
        if not mask.any() and path.suffix.lower() != ".gz":
            with open_regular_file(path) as stream:
                _refuse_hidden_mask(stream)
        return mask


def decode_mask(data: bytes, source: str) -> np.ndarray:
    """Like `read_mask`, from the bytes of an image file; errors name `source`."""
    with errors_naming(source):
        mask = _two_levels(_decode(BytesIO(data)))
        if not mask.any():
            _refuse_hidden_mask(BytesIO(data))
        return mask


def _refuse_hidden_mask(stream: BinaryIO) -> None:
    """Refuse a mask that is empty on black, but whose colours or transparency are not the same everywhere."""
    try:
        with Image.open(stream, formats=PILLOW_FORMATS) as image:
            if not image.has_transparency_data:
                return
            values = np.asarray(image.convert("RGBA"))
    except Image.UnidentifiedImageError:  # DICOM
        return
    if (values != values[0, 0]).any():
        raise UserError(
            "its transparency hides the mask: it is black on a transparent background, or fully transparent; "
            "save it without transparency: 0 background, 255 foreground"
        )


def _read(path: Path) -> np.ndarray:
    with open_regular_file(path) as stream:
        if path.suffix.lower() == ".gz":  # STARE is distributed so
            return _decode(_decompressed(stream))
        if has_dicom_signature(stream):
            from lib.images.dicom import decode_dicom  # pydicom takes 0.15 s to import

            return decode_dicom(path)
        if path.suffix.lower() in {".dcm", ".dicom"}:
            raise UserError("is not a DICOM file; expected DICM at byte 128")
        return _decode(stream)


def _decompressed(stream: BinaryIO) -> BytesIO:
    """The content of a gzip file; a decompression bomb is refused after a limited number of bytes."""
    with gzip.open(stream) as packed:
        data = packed.read(3 * MAX_PIXELS + 1)
    if len(data) > 3 * MAX_PIXELS:
        raise UserError(TOO_LARGE)
    return BytesIO(data)


def _decode(stream: BinaryIO) -> np.ndarray:
    """(H, W) or (H, W, 3) RGB of any real dtype, of a file in one of `PILLOW_FORMATS`."""
    image: ImageFile.ImageFile
    with Image.open(stream, formats=PILLOW_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(TOO_LARGE)
        if image.tile and image.tile[0].codec_name == "bmp_rle":  # Pillow decodes it in a slow loop
            raise UserError("is a run-length encoded BMP; save it as PNG")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # MPO is a JPEG followed by a preview
            raise UserError(f"has {frames} frames; export the one to be used as a single image")
        if _has_16_bit_colours(image):  # Pillow would keep only the upper 8 bits
            stream.seek(0)
            return _decode_16_bit_colours(stream.read())
        return _channels(ImageOps.exif_transpose(image))


def _has_16_bit_colours(image: ImageFile.ImageFile) -> bool:
    tags = getattr(image, "tag_v2", {})  # only TIFF has them
    planar = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    if planar and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,))) > 8:  # Pillow decodes it wrongly
        raise UserError("is a 16-bit TIFF of separate colour planes; export it as PNG")
    arguments = (image.tile[0].args if image.tile else None) or ""
    raw_mode = arguments if isinstance(arguments, str) else str(arguments[:1])
    return image.mode in {"RGB", "RGBA", "RGBX", "LA"} and ";16" in raw_mode


def _decode_16_bit_colours(data: bytes) -> np.ndarray:
    """(H, W, 3) RGB; transparency is dropped, because OpenCV keeps 16 bits only without it."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError("is damaged, or a 16-bit format that cannot be read; export it as PNG")
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
    if not np.isfinite(pixels).all():
        raise UserError("has pixels that are NaN or infinite; save it as PNG: 0 background, 255 foreground")
    if pixels.ndim == 3:  # encode each colour as one number
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
