"""What the pixels of a TIFF file mean, and the kinds that Pillow decodes wrongly."""

import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import TiffImagePlugin

from lib.images.checked_files import MAX_PIXELS, ONE_FRAME, TOO_LARGE
from lib.runtime.errors import UserError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first four bytes of a TIFF file: little and big endian, of TIFF and of BigTIFF."""

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _IMAGE_DEPTH = 254, 255, 32997
"""Tags that Pillow does not name."""

_MAX_DIRECTORIES = 32
"""More than an image with its reduced copies has; walking thousands takes long."""


@dataclass(frozen=True)
class TiffKind:
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
    def of(cls, stream: BinaryIO) -> "TiffKind":
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
        """(H, W), (H, W, 3) RGB or, with transparency, unsigned (H, W, 4), of any real dtype.

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
        return pixels[..., [2, 1, 0, 3] if blended else [2, 1, 0]]


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
            raise UserError(f"has more than {_MAX_DIRECTORIES} frames; {ONE_FRAME}")
        stream.seek(directory.next)
        directory.load(stream)
    frames = max(frames, stacked)
    if frames > 1:
        raise UserError(f"has {frames} frames; {ONE_FRAME}")


def _described_images(directory: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    """Number of images in one directory, as ImageJ and tifffile describe it; 1 without such a description."""
    text = str(directory.get(TiffImagePlugin.IMAGEDESCRIPTION, ""))
    if imagej := re.match(r"ImageJ=.*?^images=(\d+)", text, re.DOTALL | re.MULTILINE):
        return int(imagej[1])
    if shaped := re.match(r'\{"shape": \[([\d, ]+)\].*"truncated": true', text):
        sizes = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.SAMPLESPERPIXEL)
        return math.prod(map(int, shaped[1].split(","))) // math.prod(directory.get(s, 1) for s in sizes)
    return 1
