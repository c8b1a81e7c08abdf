"""Image and mask files of every kind a clinic hands over, as plain arrays.

Nothing but pixels is taken from a file: no patient's name, no date, no thumbnail.
"""

import gzip
import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from lib.runtime.atomic_files import written_beside
from lib.runtime.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".gif", ".dcm", ".dicom"}
)
"""Endings, in lower case, of the files that `read_image` reads."""

MAX_PIXELS = 89_478_485
"""Pillow's own default of what may still be an honest image; ten times a fundus camera's."""

COMPRESSION = 3
"""Of PNG files: a third of the time of Pillow's 6, and angiograms take no more room."""

# The other formats of Pillow start programs or are seldom used: they are not opened.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF")

# No other element is parsed, so that nothing of the patient can reach a message.
_DICOM_PIXEL_ELEMENTS = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation PixelData FloatPixelData
    DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths
    ModalityLUTSequence RescaleSlope RescaleIntercept RescaleType
    VOILUTSequence VOILUTFunction WindowCenter WindowWidth
    RedPaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableDescriptor BluePaletteColorLookupTableData
"""


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
    with _named_faults(path):
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
    with _named_faults(path):
        return _two_levels(_read(path))


def decode_mask(data: bytes, source: str) -> np.ndarray:
    """Like `read_mask`, from the bytes of an image file; `source` is named in errors."""
    with _named_faults(source):
        return _two_levels(_decode(BytesIO(data)))


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        UserError: no regular file, or not readable.
    """
    with _named_faults(path), _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pixel_spacing_mm(path: Path) -> tuple[float, float] | None:
    """Height and width of a pixel on the retina, from a DICOM file's PixelSpacing; None where not given."""
    from pydicom import dcmread

    with _named_faults(path), _opened(path) as stream:
        if stream.read(132)[128:] != b"DICM":
            return None
        stream.seek(0)
        dataset = dcmread(stream, specific_tags=["PixelSpacing"], stop_before_pixels=True)
        try:
            spacing = [float(length) for length in dataset.get("PixelSpacing") or ()]
        except ValueError:  # no numbers
            return None
    if len(spacing) == 2 and all(0 < length < 1 for length in spacing):
        return spacing[0], spacing[1]
    return None


def has_writing(path: Path) -> bool:
    """Whether a DICOM file says that writing is burned into its picture (BurnedInAnnotation)."""
    from pydicom import dcmread

    with _named_faults(path), _opened(path) as stream:
        if stream.read(132)[128:] != b"DICM":
            return False
        stream.seek(0)
        dataset = dcmread(stream, specific_tags=["BurnedInAnnotation"], stop_before_pixels=True)
        return dataset.get("BurnedInAnnotation") == "YES"


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 or uint16 grey (H, W) or uint8 RGB (H, W, 3) as a PNG that appears whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    rgb = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not rgb and not (array.ndim == 2 and array.dtype in (np.uint8, np.uint16)):
        raise ValueError(
            f"expected uint8 (H, W) or (H, W, 3), or uint16 (H, W); found {array.dtype} {array.shape}"
        )
    # By OpenCV, which lets other threads run meanwhile; Pillow does not.
    as_opencv_has_it = array[..., ::-1] if rgb else array
    strategy = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    settings = (cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION, *strategy)
    with written_beside(path) as (beside,):
        written, encoded = cv2.imencode(".png", as_opencv_has_it, settings)
        if not written:
            raise OSError(f"no PNG can hold {array.shape[1]} x {array.shape[0]} pixels")
        beside.write_bytes(encoded)


def _read(path: Path) -> np.ndarray:
    with _opened(path) as stream:
        if path.suffix.lower() == ".gz":  # as STARE comes
            return _decode(_unpacked(stream))
        is_dicom = stream.read(132)[128:] == b"DICM"
        stream.seek(0)
        if is_dicom:
            return _decode_dicom(path)
        if path.suffix.lower() in {".dcm", ".dicom"}:
            raise UserError("is no DICOM file; expected DICM at byte 128")
        return _decode(stream)


def _unpacked(stream: BinaryIO) -> BytesIO:
    """What a gzip file holds, up to a limit: a bomb is not unpacked whole."""
    with gzip.open(stream) as packed:
        data = packed.read(3 * MAX_PIXELS + 1)
    if len(data) > 3 * MAX_PIXELS:
        raise UserError(_too_large())
    return BytesIO(data)


def _opened(path: Path) -> BinaryIO:
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():  # a FIFO would be waited for without end
        raise UserError("is no regular file")
    if not path.stat().st_size:
        raise UserError("is empty (zero bytes)")
    return path.open("rb")


@contextmanager
def _named_faults(source: Path | str) -> Iterator[None]:
    """Every fault, Pillow's warning of bombs too, becomes a `UserError` naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata, of no interest here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except Image.UnidentifiedImageError as error:
        kinds = "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF or DICOM"
        raise UserError(f"{source}: is no image that can be read; expected {kinds}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{source}: {_too_large()}") from error
    except Exception as error:  # decoders raise nearly anything on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source}: cannot be read, damaged? ({reason})") from error


def _too_large() -> str:
    return f"has more than {MAX_PIXELS / 1e6:.0f} million pixels; expected a smaller image"


def _decode(stream: BinaryIO) -> np.ndarray:
    """(H, W) or (H, W, 3) RGB of any real dtype from an image that Pillow knows."""
    with Image.open(stream, formats=PILLOW_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(_too_large())
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


def _decode_dicom(path: Path) -> np.ndarray:
    """(H, W) or (H, W, 3) RGB of any real dtype after the tables that the file asks for."""
    from pydicom import dcmread, pixels
    from pydicom.filereader import read_file_meta_info

    _check_dicom_syntax(read_file_meta_info(path).get("TransferSyntaxUID"))
    dataset = dcmread(path, specific_tags=_DICOM_PIXEL_ELEMENTS.split())
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError("is a DICOM file without an image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"has {frames} frames; export the one to be used as a single image")
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
        raise UserError(_too_large())

    array = pixels.pixel_array(dataset)  # YBR becomes RGB
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return pixels.apply_color_lut(array, dataset)
    if array.ndim == 3:
        return array
    array = pixels.apply_voi_lut(pixels.apply_modality_lut(array, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return ~array if array.dtype.kind in "iu" else -array
    return array


def _check_dicom_syntax(syntax: str | None) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

    if syntax == DeflatedExplicitVRLittleEndian:  # may unpack to any size
        raise UserError("is a deflated DICOM file; export it uncompressed")
    if syntax is None or not UID(syntax).is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise UserError(f"is compressed as {UID(syntax).name}; export it uncompressed") from None
    if not available:
        raise UserError(
            f"is compressed as {UID(syntax).name}, which needs one more package: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg (or export it uncompressed)"
        )


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
