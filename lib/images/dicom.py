"""DICOM files: pixels, pixel spacing, and whether writing is burned into the picture."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.images.checked_files import MAX_PIXELS, named_faults, opened, too_large
from lib.runtime.errors import UserError

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


def has_dicom_signature(stream: BinaryIO) -> bool:
    """Whether "DICM" stands at byte 128; the stream is at its beginning before and after."""
    found = stream.read(132)[128:] == b"DICM"
    stream.seek(0)
    return found


def pixel_spacing_mm(path: Path) -> tuple[float, float] | None:
    """Height and width of a pixel on the retina, from a DICOM file's PixelSpacing; None where not given."""
    from pydicom import dcmread

    with named_faults(path), opened(path) as stream:
        if not has_dicom_signature(stream):
            return None
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

    with named_faults(path), opened(path) as stream:
        if not has_dicom_signature(stream):
            return False
        dataset = dcmread(stream, specific_tags=["BurnedInAnnotation"], stop_before_pixels=True)
        return dataset.get("BurnedInAnnotation") == "YES"


def decode_dicom(path: Path) -> np.ndarray:
    """(H, W) or (H, W, 3) RGB of any real dtype after the tables that the file asks for."""
    from pydicom import dcmread, pixels
    from pydicom.filereader import read_file_meta_info

    check_dicom_syntax(read_file_meta_info(path).get("TransferSyntaxUID"))
    dataset = dcmread(path, specific_tags=_DICOM_PIXEL_ELEMENTS.split())
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError("is a DICOM file without an image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"has {frames} frames; export the one to be used as a single image")
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
        raise UserError(too_large())

    array = pixels.pixel_array(dataset)  # YBR becomes RGB
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return pixels.apply_color_lut(array, dataset)
    if array.ndim == 3:
        return array
    array = pixels.apply_voi_lut(pixels.apply_modality_lut(array, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return ~array if array.dtype.kind in "iu" else -array
    return array


def check_dicom_syntax(syntax: str | None) -> None:
    """Refuse a transfer syntax that may unpack to any size, or that no installed package decodes.

    Raises:
        UserError: says what to export or install instead.
    """
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
