"""DICOM files: pixels, pixel spacing, and the header's statement that text is burned into the image."""

from pathlib import Path

import numpy as np
from pydicom import dcmread, pixels
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless
from tqdm import tqdm

from lib.images.checked_files import (
    MAX_PIXELS,
    ONE_FRAME,
    TOO_LARGE,
    errors_naming,
    has_dicom_signature,
    open_regular_file,
)
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
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData
"""

_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg (or export it uncompressed)"

_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")

_MAY_BE_EMPTY = ("VOILUTFunction", "RescaleSlope", "RescaleIntercept")

_LARGEST_PALETTE = 65536
"""Entries; the table that describes a palette has 16 bits for their number."""


SMALLEST_FIELD_MM, LARGEST_FIELD_MM = 0.02, 75
"""Limits of a side of an image of the retina; the circumference of an eye of 24 mm is 75 mm."""


def pixel_spacing_mm(path: Path) -> tuple[float, float] | None:
    """Height and width of a pixel on the retina in mm (PixelSpacing); None if the file does not give
    them, or if they are not of a retina (then with a warning).

    Enhanced objects give it in functional groups (PS3.3 C.7.6.16.2.1), of all frames or of the only one.
    """
    groups = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    with errors_naming(path):
        header = _header(path, "PixelSpacing", *groups)
        found = [header, *(m for g in groups for one in header.get(g) or () for m in _measures(one))]
        try:
            spacings = [[float(n) for n in dataset.get("PixelSpacing") or ()] for dataset in found]
        except (TypeError, ValueError):  # not numbers
            return None
    spacing: list[float] = next(filter(None, spacings), [])
    if len(spacing) != 2 or not all(0 < length < 1 for length in spacing):
        return None
    with errors_naming(path):
        header = _header(path, "Rows", "Columns")
        sides = [
            length * float(header.get(name) or 0)
            for length, name in zip(spacing, ("Rows", "Columns"), strict=True)
        ]
    if not all(SMALLEST_FIELD_MM <= side <= LARGEST_FIELD_MM for side in sides):
        tqdm.write(
            f"warning: {path}: its PixelSpacing makes the image {sides[0]:.3g} mm high and {sides[1]:.3g} mm "
            f"wide, expected {SMALLEST_FIELD_MM} to {LARGEST_FIELD_MM} mm: it is ignored; give "
            "[testing settings] pixel_spacing_mm"
        )
        return None
    return spacing[0], spacing[1]


def _measures(group: Dataset) -> list[Dataset]:
    return list(group.get("PixelMeasuresSequence") or ())


def has_burned_in_annotation(path: Path) -> bool:
    """Whether a DICOM file says that text is burned into its image (BurnedInAnnotation)."""
    with errors_naming(path):
        value = _header(path, "BurnedInAnnotation").get("BurnedInAnnotation")
    return str(value or "").strip().upper() == "YES"


def refuse_segmentation(path: Path) -> None:
    """Check that a DICOM file is no Segmentation or Label Map Segmentation: a result, no photograph.

    Raises:
        UserError: it is one; names the file.
    """
    with errors_naming(path):
        if _header(path, "SOPClassUID").get("SOPClassUID") in _SEGMENTATIONS:
            raise UserError("is a DICOM Segmentation, a result; expected a photograph or an angiogram")


def _header(path: Path, *elements: str) -> Dataset:
    """Some elements of the header; an empty data set if the file is not DICOM."""
    with open_regular_file(path) as stream:
        if not has_dicom_signature(stream):
            return Dataset()
        return dcmread(stream, specific_tags=[*elements], stop_before_pixels=True)


def decode_dicom(path: Path) -> np.ndarray:
    """Pixels after the lookup tables that the file prescribes: (H, W) or (H, W, 3) RGB of any real dtype.

    Raises:
        UserError: no image, several frames, too large, tags that contradict each other or the pixel data, or
            compressed in a way that cannot be decoded.
    """
    syntax = read_file_meta_info(path).get("TransferSyntaxUID")
    _check_transfer_syntax(syntax)
    dataset = dcmread(path, specific_tags=_PIXEL_ELEMENTS.split())
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UserError("is a DICOM file without an image")
    if missing := [name for name in ("Rows", "Columns", "BitsAllocated") if not dataset.get(name)]:
        raise UserError(f"is a DICOM file without {', '.join(missing)}; export the image again, or as PNG")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise UserError(f"has {frames} frames; {ONE_FRAME}")
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
        raise UserError(TOO_LARGE)
    interpretation = dataset.get("PhotometricInterpretation")
    if interpretation not in _INTERPRETATIONS:
        raise UserError(f"has PhotometricInterpretation = {interpretation}; export it as RGB or MONOCHROME2")
    compressed = syntax is not None and UID(syntax).is_compressed
    if "PixelData" in dataset and not compressed:
        _check_length(dataset)
    array = _decoded(dataset, shifted="PixelData" in dataset and (not compressed or syntax == RLELossless))
    if interpretation == "PALETTE COLOR":
        return _palette_colours(array, dataset)
    if array.ndim == 3:
        return array
    return _as_displayed(array, dataset)


_INTERPRETATIONS = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"}
_INTERPRETATIONS |= {"YBR_ICT", "YBR_RCT"}
"""Other terms are retired (YBR_PARTIAL_422, HSV, ARGB, CMYK), of videos (YBR_PARTIAL_420), or private."""


def _check_length(dataset: Dataset) -> None:
    """Refuse pixel data of another length than the tags say; zero bytes may follow them."""
    samples = int(dataset.get("SamplesPerPixel") or 1)
    interpretation = dataset.PhotometricInterpretation
    values = dataset.Rows * dataset.Columns * samples
    expected = -(-values * int(dataset.BitsAllocated) // 8)
    if interpretation == "YBR_FULL_422":
        expected = expected // 3 * 2
    data = dataset.PixelData
    if len(data) == values and len(data) > expected and interpretation == "YBR_FULL_422":
        raise UserError(
            f"PhotometricInterpretation (0028,0004) = YBR_FULL_422 contradicts its pixel data: they have "
            f"{len(data)} bytes, as RGB has, not {expected}; correct the tag, or export it as PNG"
        )
    if len(data) < expected or any(data[expected + 1 :]):
        raise UserError(
            f"its pixel data have {len(data)} bytes, but Rows = {dataset.Rows}, Columns = {dataset.Columns}, "
            f"SamplesPerPixel = {samples}, BitsAllocated = {dataset.BitsAllocated} and "
            f"PhotometricInterpretation = {interpretation} need {expected}; damaged? Export it again"
        )


def _decoded(dataset: Dataset, *, shifted: bool) -> np.ndarray:
    """Stored values, YBR as RGB. `shifted`: the bits of a value may lie above the lowest ones (HighBit).

    pydicom ignores HighBit, so that values whose bits lie higher would lose their upper bits.
    """
    stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    high = int(dataset.get("HighBit", stored - 1))
    if shifted and not stored - 1 <= high < int(dataset.BitsAllocated):
        raise UserError(
            f"HighBit = {high} contradicts BitsStored = {stored} and BitsAllocated = "
            f"{dataset.BitsAllocated}; export it again, or as PNG"
        )
    if shifted:
        dataset.BitsStored = high + 1
    try:
        array = pixels.pixel_array(dataset)
    except RuntimeError as error:  # no installed decoder could decode it
        name = UID(dataset.file_meta.TransferSyntaxUID).name
        reason = " ".join(str(error).split("plugins:")[-1].split())[:150]
        raise UserError(
            f"is compressed as {name} with {stored} bits; the installed decoders cannot decode it "
            f"({reason}); if it is not damaged: {_DECODERS}"
        ) from None
    dataset.BitsStored = stored
    return array >> (high + 1 - stored) if shifted and high + 1 > stored else array


def _palette_colours(array: np.ndarray, dataset: Dataset) -> np.ndarray:
    entries, first, depth = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
    entries = entries or _LARGEST_PALETTE
    little_endian = dataset.original_encoding[1]
    if "RedPaletteColorLookupTableData" in dataset:
        wide = len(dataset.RedPaletteColorLookupTableData) >= 2 * entries
        if (wide and not little_endian) or (not wide and entries > 256):  # pydicom maps these wrongly
            raise UserError("has a palette of a kind that cannot be read; export it as RGB")
    else:
        for colour in ("Red", "Green", "Blue"):
            data = dataset.get(f"Segmented{colour}PaletteColorLookupTableData") or b""
            word = np.dtype(f"{'<' if little_endian else '>'}u{depth // 8}")
            _check_segments(np.frombuffer(data[: len(data) // word.itemsize * word.itemsize], word), entries)
    # pydicom converts indices to the type of the palette's entries before it limits them
    return pixels.apply_color_lut(np.clip(array, max(first, 0), first + entries - 1), dataset)


def _check_segments(words: np.ndarray, entries: int) -> None:
    """Refuse a segmented palette that expands to another length than it says (PS3.3 C.7.9.2)."""
    at = total = 0
    while at + 1 < len(words):
        kind, length = int(words[at]), int(words[at + 1])
        if kind not in {0, 1}:
            raise UserError("has a palette with indirect segments; export it as RGB")
        total += length
        at += 2 + (length if kind == 0 else 1)
    if total != entries:
        raise UserError(f"has a segmented palette of {total} entries that says {entries}; export it as RGB")


def _as_displayed(array: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Grey levels after modality and VOI lookup table; more is brighter."""
    window = {"WindowCenter", "WindowWidth"}
    unused = set() if _has_window(dataset) else window
    # An empty element means that there is none; pydicom fails at it.
    unused |= {name for name in _MAY_BE_EMPTY if dataset.get(name) in (None, "")}
    for name in unused & set(dataset.dir()):
        delattr(dataset, name)
    array = _with_voi_table(pixels.apply_modality_lut(array, dataset), dataset)
    if array.dtype.kind == "f" and _has_unsigned_bytes(dataset):  # a window gives 0 to 2**BitsStored - 1
        array = np.rint(array).astype(np.uint8)
    tables = dataset.get("ModalityLUTSequence") or dataset.get("VOILUTSequence")
    if array.dtype == np.uint8 and dataset.BitsStored < 8 and not tables:  # as other formats with fewer bits
        array = array * np.uint8(255 // (2**dataset.BitsStored - 1))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return ~array if array.dtype.kind in "iu" else -array
    return array


def _with_voi_table(array: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Rescaled levels after the VOI lookup table or window; a larger level stays the larger one."""
    if float(dataset.get("RescaleSlope", 1)) < 0:  # pydicom would exchange dark and bright (PS3.3 C.11.2.1.2)
        dataset.RescaleSlope = -dataset.RescaleSlope
    tables = dataset.get("VOILUTSequence")
    if not tables or tables[0].LUTDescriptor[2] != 8:
        return pixels.apply_voi_lut(array, dataset)
    # pydicom stores the indices of a table of 8 bits as bytes, so that those above 255 are wrong.
    entries, first, _ = tables[0].LUTDescriptor
    tables[0].LUTDescriptor = [entries, first, 16]
    return pixels.apply_voi_lut(array, dataset).astype(np.uint8)


def _has_unsigned_bytes(dataset: Dataset) -> bool:
    """Whether the grey levels before a window are the stored ones, of at most 8 bits without a sign."""
    is_rescaled = dataset.get("RescaleSlope", 1) != 1 or dataset.get("RescaleIntercept", 0) != 0
    changed = is_rescaled or dataset.get("ModalityLUTSequence")
    return dataset.BitsStored <= 8 and dataset.PixelRepresentation == 0 and not changed


def _has_window(dataset: Dataset) -> bool:
    """Whether the first window has a centre and a width that PS3.3 C.11.2.1.2 allows."""
    linear = dataset.get("VOILUTFunction") in (None, "", "LINEAR")
    values = [dataset.get(name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (v[0] if isinstance(v, MultiValue) and v else v for v in values)
    if centre in (None, "") or width in (None, ""):
        return False
    return float(width) >= 1 if linear else float(width) > 0


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
        raise UserError(f"is compressed as {UID(syntax).name}, which needs one more package: {_DECODERS}")
