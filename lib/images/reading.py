"""Read image and mask files of all formats that clinics use, as arrays.

Only the pixels of a file are used: no patient's name, no date, no thumbnail.
"""

import gzip
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps

from lib.configuration.banner import Banner
from lib.images.checked_files import (
    MAX_PIXELS,
    ONE_FRAME,
    TOO_LARGE,
    dicom_functions,
    errors_naming,
    has_dicom_signature,
    open_regular_file,
)
from lib.images.formats import tiff
from lib.images.info_banner import find_banner
from lib.runtime.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".dcm", ".dicom"}
)
"""File name extensions, in lower case, that `read_image` reads."""

# Pillow's other formats are not opened: they start other programs or are rarely used.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF", "WEBP", "JPEG2000")


def is_image_file(path: Path) -> bool:
    """Whether a file is an image by the ending of its name, or a DICOM file by its content.

    Names that begin with a full stop (notes of macOS, temporary files) and those of the zone of a download
    (Windows, `a.tif:Zone.Identifier`) are no images.
    """
    if path.name.startswith(".") or (":" in path.name and path.name.endswith("Zone.Identifier")):
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return has_dicom_signature(stream) and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


def image_name(path: PurePath) -> str:
    """The name of an image file without its ending; a DICOM file named by its UID, `1.2.840.1`, has none."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def composed(name: str) -> str:
    """A name with composed accents (Unicode NFC): macOS writes them decomposed."""
    return unicodedata.normalize("NFC", name)


def passed_over(files: Iterable[Path]) -> str:
    """One line with the number of files that are no images, and up to three names for each ending; or ""."""
    others: dict[str, list[str]] = {}
    for file in sorted(files):
        if not is_image_file(file):
            ending = "hidden" if file.name.startswith(".") else file.suffix.lower()
            others.setdefault(ending or "no ending", []).append(file.name)
    kinds = [
        f"{len(names)} {ending} ({', '.join(ascii(n)[1:-1] for n in names[:3])}{', ...' * (len(names) > 3)})"
        for ending, names in others.items()
    ]
    number = sum(map(len, others.values()))
    return f"{number} file{'s' * (number != 1)} passed over, no images: {'; '.join(kinds)}" if kinds else ""


def read_image(path: Path, banner: Banner | Literal["auto"] | None = "auto") -> np.ndarray:
    """Read a photograph or angiogram as a viewer shows it.

    EXIF orientation is applied. Transparent pixels are blended with black, the surround of a fundus
    image. More than 8 bits, and floating point, are scaled linearly from the image's own minimum
    and maximum to 0..255 (a constant image becomes 0). These are of the pixels outside an information
    banner, whose white text may have many times the levels of the retina. Colour profiles are not applied.
    The modality and VOI tables of DICOM are applied, and MONOCHROME1 is inverted.

    Args:
        path: the file.
        banner: the strip, which stays in the image; "auto" searches for one, None: there is none.

    Returns:
        uint8, (H, W) if the file is grey or its colour channels are equal, else (H, W, 3) RGB.

    Raises:
        UserError: not a regular file, not an image, damaged, too large, several frames, or (DICOM)
            compressed in a way that needs another package.
    """
    with errors_naming(path):
        pixels = _read(path)
        scaled = _scaled_to_uint8(pixels, pixels)
        if pixels.dtype != np.uint8 and (strip := find_banner(scaled) if banner == "auto" else banner):
            scaled = _scaled_to_uint8(pixels, strip.cut(pixels))
    return np.ascontiguousarray(grey_if_equal(scaled))


def grey_if_equal(pixels: np.ndarray) -> np.ndarray:
    """(H, W) instead of (H, W, 3) if the colour channels are equal, as after a coloured banner is cut off."""
    return pixels[..., 0] if pixels.ndim == 3 and (pixels == pixels[..., :1]).all() else pixels


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
        return _two_levels(_read(path))


def decode_mask(data: bytes, source: str) -> np.ndarray:
    """Like `read_mask`, from the bytes of an image file; errors name `source`."""
    with errors_naming(source):
        return _two_levels(_decode(BytesIO(data)))


def decode_image(data: bytes, source: str) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 from the bytes of an image file; errors name `source`."""
    with errors_naming(source):
        pixels = _decode(BytesIO(data))
        return _scaled_to_uint8(pixels, pixels)


def _read(path: Path) -> np.ndarray:
    with open_regular_file(path) as stream:
        if path.suffix.lower() == ".gz":  # STARE is distributed so
            content = _decompressed(stream)
            if has_dicom_signature(content):
                raise UserError("is a compressed DICOM file; decompress it with gunzip")
            return _decode(content)
        if dicom := dicom_functions(path):
            return dicom.decode_dicom(path)
        if path.suffix.lower() in {".dcm", ".dicom"}:
            raise UserError(
                "is not a DICOM file; expected DICM at byte 128; export it as a DICOM file or PNG"
            )
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
    beginning = stream.read(16)
    stream.seek(0)
    if beginning[:4] in tiff.SIGNATURES:
        kind = tiff.TiffKind.of(stream)
        if not kind.is_deep:
            return _decode_by_pillow(stream, kind.refusal)
        pixels = kind.decode_deep(stream)
        return _blended_with_black(pixels) if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels
    if beginning.startswith(_PNG_SIGNATURE):
        stream = BytesIO(_without_damaged_chunks(stream.read()))
    refusal = next((r for pattern, r in _REFUSED_KINDS if re.match(pattern, beginning, re.DOTALL)), "")
    return _decode_by_pillow(stream, refusal)


def _decode_by_pillow(stream: BinaryIO, refusal: str) -> np.ndarray:
    """`refusal`: what is said if Pillow does not know the kind of the file."""
    try:
        opened = Image.open(stream, formats=PILLOW_FORMATS)
    except Image.UnidentifiedImageError:
        if refusal:
            raise UserError(refusal) from None
        raise
    with opened as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(TOO_LARGE)
        if image.tile and image.tile[0].codec_name == "bmp_rle":  # Pillow decodes it in a slow loop
            raise UserError("is a run-length encoded BMP; save it as PNG")
        # MPO is a JPEG followed by a preview; the directories of a TIFF have been looked at.
        if image.format not in {"MPO", "TIFF"} and getattr(image, "is_animated", False):
            raise UserError(f"has several frames; {ONE_FRAME}")
        if image.format == "JPEG2000":
            stream.seek(0)
            _check_jpeg_2000(stream.read(), image)
        if _has_16_bit_colours(image):  # Pillow would keep only the upper 8 bits
            stream.seek(0)
            return _decode_16_bit_colours(stream.read(), image)
        return _channels(ImageOps.exif_transpose(image))


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANGE_PIXELS = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""Ancillary chunks of PNG without which other pixels would be shown."""

_REFUSED_KINDS = (
    (rb"\xff\xd8\xff", "is a JPEG of a kind that cannot be read (more than 8 bits?); export it as PNG"),
    (rb"P7\s", "is a PAM file; save it as PNG"),
    (rb"P[Ffh]\s", "is a PFM file of a kind that cannot be read; save it as TIFF of floating point"),
    (rb"BM", "is a BMP of a kind that cannot be read; save it as PNG"),
    (rb".{4}ftyp(heic|heix|mif1|msf1|hevc)", "is a HEIF photograph; export it as JPEG or PNG"),
    (rb".{4}ftypavi[fs]", "is an AVIF image; export it as PNG"),
    (rb"\xff\x0a|\0{3}\x0cJXL ", "is a JPEG XL image; export it as PNG"),
    (rb"II\xbc\x01", "is a JPEG XR image; export it as PNG"),
    (rb"\x76\x2f\x31\x01", "is an OpenEXR image; export it as PNG"),
    (rb"8BPS", "is a Photoshop document; export it as PNG"),
    (rb"%PDF", "is a PDF document; export the image in it as PNG"),
)
"""Beginnings of files (regular expressions) that Pillow does not open, and what is said about them."""


def _without_damaged_chunks(png: bytes) -> bytes:
    """The PNG file without ancillary chunks whose checksum is wrong, unless they change pixels.

    Pillow refuses the whole file. libpng ignores such chunks (PNG specification, 3rd edition, 13.2).
    """
    kept, at = [png[:8]], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 4 : at + 8 + length]
        chunk = png[at : at + 12 + length]
        at += len(chunk)
        damaged = zlib.crc32(content).to_bytes(4, "big") != chunk[-4:]
        if not (damaged and kind[:1].islower() and kind not in _CHANGE_PIXELS):
            kept.append(chunk)
    return b"".join(kept)


def _check_jpeg_2000(data: bytes, image: ImageFile.ImageFile) -> None:
    """Refuse components that Pillow reduces to 8 bits, or takes for unsigned (ISO 15444-1, A.5.1)."""
    size_marker = data.find(b"\xff\x4f\xff\x51") + 2
    depth = data[size_marker + 40]
    if depth & 0x80 or (depth & 0x7F) + 1 > (16 if image.mode.startswith("I") else 8):
        raise UserError(
            f"is a JPEG 2000 of {'signed ' if depth & 0x80 else ''}{(depth & 0x7F) + 1}-bit "
            f"{'grey' if image.mode.startswith('I') else 'colours'}; export it as PNG"
        )


def _has_16_bit_colours(image: ImageFile.ImageFile) -> bool:
    arguments: Any = (image.tile[0].args if image.tile else None) or ""
    if image.format == "PPM" and isinstance(arguments, tuple):  # the last argument is the largest value
        return image.mode == "RGB" and isinstance(arguments[-1], int) and arguments[-1] > 255
    raw_mode = arguments if isinstance(arguments, str) else str(arguments[:1])
    return image.mode in {"RGB", "RGBA", "RGBX", "LA"} and ";16" in raw_mode


def _decode_16_bit_colours(data: bytes, image: ImageFile.ImageFile) -> np.ndarray:
    """(H, W, 3) RGB, blended with black by Pillow's transparency: OpenCV keeps 16 bits only without it."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError("is damaged, or a 16-bit format that cannot be read; export it as PNG")
    _refuse_transparent_colour(image)
    if image.mode not in {"RGBA", "LA"}:
        return pixels[..., ::-1]
    alpha = np.asarray(ImageOps.exif_transpose(image).getchannel("A"), np.uint16) * 257  # 255 is 65535
    return _blended_with_black(np.dstack([pixels[..., ::-1], alpha]))


def _refuse_transparent_colour(image: Image.Image) -> None:
    if "transparency" in image.info:
        raise UserError("is a 16-bit PNG with a transparent colour; export it without transparency")


def _channels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        _refuse_transparent_colour(image)
        return np.asarray(image)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        transparent = bool((np.asarray(alpha) < 255).any())
        if transparent and not image.convert("RGB").getbbox():
            raise UserError(_HIDDEN)
    return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))


_HIDDEN = "is entirely black where its transparency is applied; export it without transparency"


def _blended_with_black(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) from unsigned RGB and opacity (H, W, 4)."""
    opacity = pixels[..., 3:] / np.iinfo(pixels.dtype).max
    blended = np.rint(pixels[..., :3] * opacity).astype(pixels.dtype)
    if opacity.min() < 1 and not blended.any():
        raise UserError(_HIDDEN)
    return blended


def _scaled_to_uint8(pixels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`pixels` from the minimum and maximum of `image`, a part of them, to 0..255."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise UserError("has pixels that are NaN or infinite; export it as 8 or 16 bit")
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (pixels.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def _two_levels(pixels: np.ndarray) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise UserError("has pixels that are NaN or infinite; save it as PNG: 0 background, 255 foreground")
    brightness = pixels
    if pixels.ndim == 3:  # encode each colour as one number
        brightness = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        red, green, blue = (pixels[..., c].astype(np.uint64) for c in range(3))
        pixels = red << 32 | green << 16 | blue
    levels = np.unique(pixels)
    if len(levels) > 2:
        raise UserError(
            f"has {len(levels)} levels, a mask has two; "
            "save it as PNG (not JPEG) without smoothing: 0 background, 255 foreground"
        )
    background = min(levels, key=lambda level: brightness[pixels == level][0]) if len(levels) == 2 else 0
    return (pixels != background).astype(np.uint8)
