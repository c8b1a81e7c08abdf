"""DICOM objects of one image: its segmentation, and a structured report of its measurements (TID 1500).

highdicom makes them; it needs requirements/dicom_output.txt.
"""

import functools
import hashlib
import logging
import tomllib
import warnings
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from lib.networks.trained_network import is_non_perfusion, share_column
from lib.prediction.measurement import Measurement
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

SOFTWARE = "retinal-non-perfusion"
STATEMENT = "Research software, no medical device; not for diagnosis"

SCHEME = "99RNP"
"""Private coding scheme: SNOMED CT and DICOM have no code that means exactly these."""

NON_PERFUSION = Code("NON_PERFUSION", SCHEME, "Retinal capillary non-perfusion")
SHARES = {
    "ischaemic_index": Code("ISCHAEMIC_INDEX", SCHEME, "Ischaemic index: share of the field of view"),
    "area_fraction": Code("AREA_FRACTION", SCHEME, "Outlined share of the field of view"),
}
NUMBER_OF_AREAS = Code("NUMBER_OF_AREAS", SCHEME, "Number of separate areas")

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Rows", "Columns")
_MAY_BE_EMPTY = """
    PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime
"""
"""Elements of type 2, which highdicom copies; anonymisers remove some of them."""


def dicom_objects(file: Path, image_sha256: str, mask: np.ndarray, row: Measurement) -> dict[str, bytes]:
    """Encode a DICOM Segmentation (BINARY, one frame) and a Comprehensive SR of TID 1500.

    Patient and study are those of the source image: nothing that its header lacks is added. UIDs, dates and
    times follow from the arguments, so that the same result has the same bytes.

    Args:
        file: the source image, a DICOM file of one frame.
        image_sha256: its SHA-256.
        mask: (H, W) bool, of the stored pixels of the source image.
        row: its row of the table of measurements.

    Returns:
        The content of the files of the kinds "segmentation" and "structured_report".

    Raises:
        UserError: the header lacks UIDs or has invalid values, or has other rows and columns than the mask.
    """
    logging.getLogger("highdicom").setLevel(logging.ERROR)  # its warnings quote the patient's name
    entropy = [image_sha256, repr(row), hashlib.sha256(mask.tobytes()).hexdigest()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so do those of pydicom
            source = _source_header(file, mask.shape)
            segmentation = _segmentation(source, mask, row, entropy)
            report = _structured_report(source, segmentation, row, entropy)
            return {"segmentation": _encoded(segmentation), "structured_report": _encoded(report)}
    except UserError as error:
        raise UserError(f"{file}: no DICOM objects: {error}; or predict it without --dicom") from None
    except Exception as error:  # a message of pydicom or highdicom could quote the patient's name
        raise UserError(
            f"{file}: no DICOM objects: its header has invalid values ({type(error).__name__}); check it "
            "(for example with dciodvfy), or predict it without --dicom"
        ) from None


def _source_header(file: Path, shape: tuple[int, ...]) -> Dataset:
    source = dcmread(file, stop_before_pixels=True)
    # highdicom refuses an empty first character set, which Japanese, Korean and Chinese headers have.
    tags = list(source.keys())
    for tag in filter(attrgetter("is_private"), tags):
        del source[tag]  # the objects do not need it, and its value may be invalid
    source.decode()
    source.SpecificCharacterSet = "ISO_IR 192"
    if missing := [name for name in _NEEDED if not source.get(name)]:
        raise UserError(f"its header lacks {', '.join(missing)}; export it again")
    if shape != (source.Rows, source.Columns):
        raise UserError(
            f"the mask has {shape[0]} rows and {shape[1]} columns, its header says {source.Rows} and "
            f"{source.Columns}; export it again"
        )
    for name in _MAY_BE_EMPTY.split():
        if name not in source:
            setattr(source, name, None)
    # The segmentation refers to the pixels of the image, not to a position in space. highdicom expects
    # functional groups in all kinds that may have several frames, also in photographs, which have none.
    for name in ("ImagePositionPatient", "PerFrameFunctionalGroupsSequence"):
        source.pop(name, None)
    groups = Dataset()
    groups.PixelMeasuresSequence = hd.PixelMeasuresSequence((1, 1), 1)  # taken out of the segmentation
    source.SharedFunctionalGroupsSequence, source.NumberOfFrames = [groups], 1
    return source


def _segmentation(
    source: Dataset, mask: np.ndarray, row: Measurement, entropy: list[str]
) -> hd.seg.Segmentation:
    category, structure = _coded_structure(row)
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=structure.meaning,
        segmented_property_category=category,
        segmented_property_type=structure,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            family=codes.cid7162.ArtificialIntelligence, parameters=_parameters(row), **_algorithm(row)
        ),
        anatomic_regions=[codes.SCT.Retina],
    )
    segmentation = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=mask.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        device_serial_number=_text(row["weights_sha256"]),
        omit_empty_frames=False,
        content_label="SEGMENTATION",
        content_description=STATEMENT,
        **_identity(source, row, "segmentation", entropy),
    )
    segmentation.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    for name in ("FrameOfReferenceUID", "PositionReferenceIndicator"):
        segmentation.pop(name, None)
    segmentation.PatientOrientation = source.get("PatientOrientation")
    dimensions = generate_uid(entropy_srcs=["dimensions", *entropy])
    for item in [*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence]:
        item.DimensionOrganizationUID = dimensions
    return segmentation


def _structured_report(
    source: Dataset, segmentation: hd.seg.Segmentation, row: Measurement, entropy: list[str]
) -> hd.sr.ComprehensiveSR:
    category, structure = _coded_structure(row)
    laterality = {"R": codes.SCT.Right, "L": codes.SCT.Left}
    side = source.get("ImageLaterality") or source.get("Laterality")
    frame = hd.sr.ReferencedSegmentationFrame(
        segmentation.SOPClassUID,
        segmentation.SOPInstanceUID,
        frame_number=1,
        segment_number=1,
        source_image=hd.sr.SourceImageForSegmentation(source.SOPClassUID, source.SOPInstanceUID),
    )
    del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber  # PS3.3 C.18.4: a frame or segments
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(generate_uid(entropy_srcs=["area", *entropy]), structure.meaning),
        referenced_segment=frame,
        finding_category=category,
        finding_type=structure,
        finding_sites=[hd.sr.FindingSite(codes.SCT.Retina, laterality.get(side))],
        algorithm_id=hd.sr.AlgorithmIdentification(
            parameters=[f"{name}={value}" for name, value in _parameters(row).items()], **_algorithm(row)
        ),
        measurements=_measurements(row),
    )
    observer = hd.sr.DeviceObserverIdentifyingAttributes(
        generate_uid(entropy_srcs=[_text(row["weights_sha256"])]),
        name=_text(row["model"]),
        manufacturer_name=SOFTWARE,
    )
    content = hd.sr.MeasurementReport(
        hd.sr.ObservationContext(hd.sr.ObserverContext(codes.DCM.Device, observer)),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[group],
    )
    return hd.sr.ComprehensiveSR(
        evidence=[source, segmentation],
        content=content[0],
        is_complete=True,
        **_identity(source, row, "structured report", entropy),
    )


def _measurements(row: Measurement) -> list[hd.sr.Measurement]:
    share = share_column(str(row["structure"]))
    values = [
        (codes.SCT.Area, row["area_mm2"], codes.UCUM.SquareMillimeter),
        (SHARES[share], row[share], codes.UCUM.NoUnits),
        (NUMBER_OF_AREAS, row["number_of_areas"], codes.UCUM.NoUnits),
    ]
    return [hd.sr.Measurement(name, float(value), unit) for name, value, unit in values if value is not None]


def _coded_structure(row: Measurement) -> tuple[Code, Code]:
    """Category and type of what is outlined."""
    if is_non_perfusion(str(row["structure"])):
        return codes.SCT.MorphologicallyAbnormalStructure, NON_PERFUSION
    return codes.SCT.SpatialAndRelationalConcept, Code("STRUCTURE", SCHEME, _text(row["structure"]))


def _algorithm(row: Measurement) -> dict[str, Any]:
    return {"name": _text(row["model"]), "version": _version()}


def _parameters(row: Measurement) -> dict[str, str]:
    names = ("architecture", "weights_sha256", "threshold", "min_area_px", "pixel_spacing_mm")
    return {name: _text(row[name], 1000) for name in names}


def _identity(source: Dataset, row: Measurement, kind: str, entropy: list[str]) -> dict[str, Any]:
    """What both objects have in their series, equipment and SOP Common modules."""
    scheme = CodingSchemeIdentificationItem(
        SCHEME, name="Private codes of retinal-non-perfusion", responsible_organization=SOFTWARE
    )
    return {
        "series_instance_uid": generate_uid(entropy_srcs=["series", kind, *entropy]),
        "series_number": 1,
        "sop_instance_uid": generate_uid(entropy_srcs=[kind, *entropy]),
        "instance_number": 1,
        "manufacturer": SOFTWARE,
        "manufacturer_model_name": _text(row["model"]),
        "software_versions": _version(),
        "series_description": f"{kind.capitalize()}, {SOFTWARE}",
        "coding_schemes": [scheme],
        **_content_time(source),
    }


def _content_time(source: Dataset) -> dict[str, str]:
    """Date and time of the source image; of an anonymised one without a date, the first day of 1900."""
    for kind in ("Content", "Acquisition", "Study"):
        if date := source.get(f"{kind}Date"):
            return {"content_date": date, "content_time": source.get(f"{kind}Time") or "000000"}
    return {"content_date": "19000101", "content_time": "000000"}


def _encoded(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file, without the times at which the program ran."""
    del dataset.InstanceCreationDate, dataset.InstanceCreationTime
    for item in dataset.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _text(value: object, length: int = 64) -> str:
    """As an ASCII text that DICOM allows (LO), whatever the character set of the source image."""
    return str(value).encode("ascii", "replace").decode().replace("\\", "/")[:length]


@functools.cache
def _version() -> str:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
