"""DICOM files: pixels, pixel spacing, and the header's statement that text is burned into the image."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import dcmread, pixels
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from lib.images.checked_files import MAX_PIXELS, TOO_LARGE, errors_naming, open_regular_file
from lib.runtime.errors import UserError

# No other element is parsed, so that no data about the patient can get into a message.
_PIXEL_ELEMENTS = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation PixelData FloatPixelData
    DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths
    ModalityLUTSequence RescaleSlope RescaleIntercept RescaleType
    VOILUTSequence VOILUTFunction WindowCenter WindowWidth
    RedPaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableDescriptor BluePaletteColorLookupTableData
"""


def has_dicom_signature(stream: BinaryIO) -> bool:
    """Whether the four bytes at offset 128 are "DICM"; the stream is at its beginning before and after."""
    found = stream.read(132)[128:] == b"DICM"
    stream.seek(0)
    return found


def pixel_spacing_mm(path: Path) -> tuple[float, float] | None:
    """Height and width of a pixel on the retina in mm (PixelSpacing); None if the file does not give them."""
    with errors_naming(path):
        header = _header(path, "PixelSpacing")
        try:
            spacing = [float(length) for length in header.get("PixelSpacing") or ()]
        except ValueError:  # not numbers
            return None
    if len(spacing) == 2 and all(0 < length < 1 for length in spacing):
        return spacing[0], spacing[1]
    return None


def has_burned_in_annotation(path: Path) -> bool:
    """Whether a DICOM file says that text is burned into its image (BurnedInAnnotation)."""
    with errors_naming(path):
        return _header(path, "BurnedInAnnotation").get("BurnedInAnnotation") == "YES"


def _header(path: Path, element: str) -> Dataset:
    """One element of the header; an empty data set if the file is not DICOM."""
    with open_regular_file(path) as stream:
        if not has_dicom_signature(stream):
            return Dataset()
        return dcmread(stream, specific_tags=[element], stop_before_pixels=True)


def decode_dicom(path: Path) -> np.ndarray:
    """Pixels after the lookup tables that the file prescribes: (H, W) or (H, W, 3) RGB of any real dtype.

    Raises:
        UserError: no image, several frames, too large, or compressed in a way that cannot be decoded.
    """
    _check_transfer_syntax(read_file_meta_info(path).get("TransferSyntaxUID"))
    dataset = dcmread(path, specific_tags=_PIXEL_ELEMENTS.split())
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError("is a DICOM file without an image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"has {frames} frames; export the one to be used as a single image")
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
        raise UserError(TOO_LARGE)

    array = pixels.pixel_array(dataset)  # converts YBR to RGB
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return pixels.apply_color_lut(array, dataset)
    if array.ndim == 3:
        return array
    array = pixels.apply_voi_lut(pixels.apply_modality_lut(array, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return ~array if array.dtype.kind in "iu" else -array
    return array


def _check_transfer_syntax(syntax: str | None) -> None:
    """Refuse compression that has no size limit, or that no installed package can decode."""
    if syntax == DeflatedExplicitVRLittleEndian:  # may decompress to any size
        raise UserError("is a deflated DICOM file; export it uncompressed")
    if syntax is None or not UID(syntax).is_compressed:
        return
    try:
        available = pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        raise UserError(f"is compressed as {UID(syntax).name}; export it uncompressed") from None
    if not available:
        raise UserError(
            f"is compressed as {UID(syntax).name}, which needs one more package: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg (or export it uncompressed)"
        )
