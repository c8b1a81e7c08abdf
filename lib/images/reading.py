"""Read image and mask files of all formats that clinics use, as arrays.

Only the pixels of a file are used: no patient's name, no date, no thumbnail.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO

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
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return has_dicom_signature(stream) and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


def image_name(path: PurePath) -> str:
    """The name of an image file without its ending; a DICOM file named by its UID, `1.2.840.1`, has none."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def passed_over(files: Iterable[Path]) -> str:
    """One line with the number of files that are no images, and up to three names for each ending; or ""."""
    others: dict[str, list[str]] = {}
    for file in sorted(files):
        if not is_image_file(file):
            ending = "names with a full stop first" if file.name.startswith(".") else file.suffix.lower()
            others.setdefault(ending or "no ending", []).append(file.name)
    kinds = [
        f"{len(names)} {ending} ({', '.join(ascii(n)[1:-1] for n in names[:3])}{', ...' * (len(names) > 3)})"
        for ending, names in others.items()
    ]
    number = sum(map(len, others.values()))
    return f"{number} file{'s' * (number != 1)} passed over, no images: {'; '.join(kinds)}" if kinds else ""


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
    return np.ascontiguousarray(grey_if_equal(pixels))


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


def _read(path: Path) -> np.ndarray:
    with open_regular_file(path) as stream:
        if path.suffix.lower() == ".gz":  # STARE is distributed so
            content = _decompressed(stream)
            if has_dicom_signature(content):
                raise UserError("is a compressed DICOM file; decompress it with gunzip")
            return _decode(content)
        if has_dicom_signature(stream):
            from lib.images.dicom import decode_dicom  # pydicom takes 0.15 s to import

            return decode_dicom(path)
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
    if beginning[:4] in _TIFF_SIGNATURES:
        kind = _TiffKind.of(stream)
        return kind.decode_deep(stream) if kind.is_deep else _decode_by_pillow(stream, kind.refusal)
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
            raise UserError(f"has several frames; {_ONE_FRAME}")
        if image.format == "JPEG2000":
            stream.seek(0)
            _check_jpeg_2000(stream.read(), image)
        if _has_16_bit_colours(image):  # Pillow would keep only the upper 8 bits
            stream.seek(0)
            return _decode_16_bit_colours(stream.read(), image)
        return _channels(ImageOps.exif_transpose(image))


_ONE_FRAME = "export the one to be used as a single image"
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
    alpha = np.asarray(ImageOps.exif_transpose(image).getchannel("A"))
    return _blended_with_black(pixels[..., ::-1], alpha / 255)


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


def _blended_with_black(pixels: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Unsigned (H, W, C) times `opacity`, (H, W) from 0 to 1."""
    blended = np.rint(pixels * opacity[..., None]).astype(pixels.dtype)
    if opacity.min() < 1 and not blended.any():
        raise UserError(_HIDDEN)
    return blended


_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_DIRECTORIES = 32
"""More than an image with its reduced copies has; walking thousands takes long."""


@dataclass(frozen=True)
class _TiffKind:
    """The tags of a TIFF file that say what its pixels mean (TIFF 6.0).

    Pillow inverts 8-bit MINISWHITE only, takes int8 and uint32 for other types, and reduces colours to
    8 bits; OpenCV decodes these. Both are checked by benchmarks/image_formats.py.
    """

    bits: tuple[int, ...]
    sample_format: int
    photometric: int
    extra_samples: tuple[int, ...]
    separate_planes: bool
    subsampled: bool
    compressed: bool
    big_endian: bool

    @classmethod
    def of(cls, stream: BinaryIO) -> "_TiffKind":
        """Read the first directory; the stream is at its beginning afterwards.

        Raises:
            UserError: too large, or several images that are no reduced copies of the first.
        """
        header = stream.read(8)
        if header[:4] == b"MM\0+":
            raise UserError("is a big-endian BigTIFF; export it as PNG")
        directory = TiffImagePlugin.ImageFileDirectory_v2(
            header + stream.read(8) if header[2:3] == b"+" else header
        )
        first = directory.next
        stream.seek(first)
        directory.load(stream)
        tags = dict(directory)
        _refuse_more_frames(directory, first, stream)
        stream.seek(0)
        width, height = (tags.get(t, 0) for t in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH))
        if not width or not height:
            raise UserError("is a TIFF without a width and a height, damaged?")
        if width * height > MAX_PIXELS:
            raise UserError(TOO_LARGE)
        samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        return cls(
            bits=bits * min(samples, 99) if len(bits) == 1 else bits,
            sample_format=max(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))),
            photometric=tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0),
            extra_samples=tags.get(TiffImagePlugin.EXTRASAMPLES, ()),
            separate_planes=tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 and samples > 1,
            subsampled=tags.get(TiffImagePlugin.YCBCRSUBSAMPLING, (2, 2)) != (1, 1),
            compressed=tags.get(TiffImagePlugin.COMPRESSION, 1) != 1,
            big_endian=header[:2] == b"MM",
        )

    @property
    def is_deep(self) -> bool:
        """Whether Pillow decodes pixels of more than 8 bits or with a sign wrongly or not at all.

        Raises:
            UserError: up to 8 bits, but of a kind that Pillow decodes wrongly.
        """
        if max(self.bits) > 8 or self.sample_format != 1:
            deep_grey = {((12,), 1), ((16,), 1)}
            if not self.big_endian:  # Pillow swaps the bytes of these where they are compressed
                deep_grey |= {((16,), 2), ((32,), 2), ((32,), 3)}
            return self.photometric != 1 or (self.bits, self.sample_format) not in deep_grey
        lab, ycbcr = self.photometric == 8, self.photometric == 6
        if lab or (ycbcr and self.subsampled and not self.compressed):
            raise UserError(self.refusal)
        if self.separate_planes and (self.photometric != 2 or self.extra_samples == (1,)):
            raise UserError(self.refusal)
        return False

    @property
    def refusal(self) -> str:
        """What is said about a kind that cannot be read."""
        form = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}.get(self.sample_format, "")
        colours = {0: "grey (white is zero)", 1: "grey", 2: "RGB", 3: "palette", 4: "transparency mask"}
        colours |= {5: "CMYK", 6: "YCbCr", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL"}
        colours |= {32803: "colour filter array (raw)", 32845: "LogLuv", 34892: "linear raw"}
        name = colours.get(self.photometric, f"photometric interpretation {self.photometric}")
        extra = " with alpha" if set(self.extra_samples) & {1, 2} else ""
        expected = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}.get(self.photometric, len(self.bits))
        extra = extra or (" with further channels" if len(self.bits) > expected else "")
        planes = " in separate colour planes" if self.separate_planes else ""
        return f"is a TIFF of {max(self.bits)}-bit {form}{name}{extra}{planes}; export it as PNG"

    def decode_deep(self, stream: BinaryIO) -> np.ndarray:
        """(H, W) or (H, W, 3) RGB of any real dtype.

        Raises:
            UserError: OpenCV does not decode this kind to the type that the file names, or it is damaged.
        """
        kind = {1: "u", 2: "i", 3: "f"}.get(self.sample_format)
        samples, alpha = len(self.bits), self.extra_samples[:1]
        plain = (self.photometric in {0, 1} and samples == 1) or (self.photometric == 2 and samples in {3, 4})
        blended = samples == 4 and alpha in {(), (2,)}  # as Pillow takes a fourth channel without a name
        plain &= len(set(self.bits)) == 1
        plain &= kind != "i" or self.photometric != 0 or self.bits != (8,)  # OpenCV decodes it wrongly
        if not plain or self.separate_planes or kind is None or (blended and kind != "u"):
            raise UserError(self.refusal)
        pixels: Any = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        found = None if pixels is None else (f"{pixels.dtype.kind}{8 * pixels.dtype.itemsize}", pixels.size)
        if pixels is None or found != (f"{kind}{self.bits[0]}", samples * pixels.shape[0] * pixels.shape[1]):
            raise UserError(self.refusal + " (or it is damaged)")
        if self.photometric == 0:  # OpenCV does not invert it
            return -pixels if kind == "f" else ~pixels
        if pixels.ndim == 2:
            return pixels
        rgb = pixels[..., 2::-1]
        return _blended_with_black(rgb, pixels[..., 3] / np.iinfo(pixels.dtype).max) if blended else rgb


def _refuse_more_frames(
    directory: TiffImagePlugin.ImageFileDirectory_v2, first: int, stream: BinaryIO
) -> None:
    """Refuse directories after this one, which is at `first`, unless they hold reduced copies or masks.

    ImageJ, and tifffile on request, store a stack of images with the directory of the first alone.
    """
    stacked = max(_described_images(directory), int(directory.get(_IMAGE_DEPTH, 1)))
    frames, visited = 0, {first}
    while True:
        new, old = directory.get(_NEW_SUBFILE_TYPE, 0), directory.get(_SUBFILE_TYPE, 1)
        reduced = bool(new & 0b101) or old == 2
        if reduced and len(visited) == 1:
            raise UserError("is a TIFF that begins with a reduced copy; export the image as PNG")
        frames += not reduced
        if not directory.next or directory.next in visited:
            break
        visited.add(directory.next)
        if len(visited) > _MAX_DIRECTORIES:
            raise UserError(f"has more than {_MAX_DIRECTORIES} frames; {_ONE_FRAME}")
        stream.seek(directory.next)
        directory.load(stream)
    frames = max(frames, stacked)
    if frames > 1:
        raise UserError(f"has {frames} frames; {_ONE_FRAME}")


def _described_images(directory: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Number of images in one directory, as ImageJ and tifffile describe it; 1 without such a description."""
    text = str(directory.get(TiffImagePlugin.IMAGEDESCRIPTION, ""))
    if imagej := re.match(r"ImageJ=.*?^images=(\d+)", text, re.DOTALL | re.MULTILINE):
        return int(imagej[1])
    if shaped := re.match(r'\{"shape": \[([\d, ]+)\].*"truncated": true', text):
        sizes = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.SAMPLESPERPIXEL)
        return math.prod(map(int, shaped[1].split(","))) // math.prod(directory.get(s, 1) for s in sizes)
    return 1


_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _IMAGE_DEPTH = 254, 255, 32997


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
