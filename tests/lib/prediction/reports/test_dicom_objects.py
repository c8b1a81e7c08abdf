"""What other DICOM software reads from the objects: highdicom, pydicom, and dciodvfy where it is installed."""

import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.prediction.image_file import predict_file
from lib.prediction.results_record import FilesChanged
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.lib.images.test_reading import write_dicom
from tests.lib.prediction.test_folder import network, rows_of

hd = pytest.importorskip("highdicom", reason="pip install -r requirements/dicom_output.txt")

from lib.prediction.reports.dicom_objects import SCHEME, dicom_objects  # noqa: E402

ANGIOGRAM = synthetic_angiogram(4, 0, 160).image
WITH_BANNER = np.concatenate([ANGIOGRAM, np.zeros((24, 160), np.uint8)])
WITH_BANNER[168:176, 10:100:3] = 255

PHOTOGRAPH_8, PHOTOGRAPH_16, WIDE_FIELD = (f"1.2.840.10008.5.1.4.1.1.77.1.5.{n}" for n in (1, 2, 5))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

SOURCES = {
    "photograph": (ANGIOGRAM, PHOTOGRAPH_8, {"NumberOfFrames": 1, "PatientOrientation": ["L", "F"]}),
    "16 bit": (ANGIOGRAM.astype(np.uint16) * 16, PHOTOGRAPH_16, {}),
    "colour": (np.stack([ANGIOGRAM, ANGIOGRAM, ANGIOGRAM // 2], axis=-1), SECONDARY_CAPTURE, {}),
    "banner": (WITH_BANNER, SECONDARY_CAPTURE, {}),
    "MONOCHROME1": (255 - ANGIOGRAM, PHOTOGRAPH_8, {"PhotometricInterpretation": "MONOCHROME1"}),
    "wide field": (ANGIOGRAM, WIDE_FIELD, {"FrameOfReferenceUID": "1.2.3"}),
    "nothing outlined": (np.where(ANGIOGRAM > 5, 250, 0).astype(np.uint8), PHOTOGRAPH_8, {}),
}


def write_source(file, pixels=ANGIOGRAM, sop_class=PHOTOGRAPH_8, **elements):
    uids = {f"{kind}InstanceUID": generate_uid() for kind in ("SOP", "Study", "Series")}
    known = {"PatientID": "P7", "ContentDate": "20240131", "ContentTime": "101500", "ImageLaterality": "R"}
    write_dicom(file, pixels, **{"SOPClassUID": sop_class, **uids, **known, **elements})
    return dcmread(file)


def predict(folder, output, settings=None, dicom=True, **options):
    objects = dicom_objects if dicom else None
    settings = settings or network(pixel_spacing_mm=0.02)
    return predict_images(
        settings, find_images([folder], output), output, {}, dicom_objects=objects, **options
    )


def only(folder, pattern):
    (file,) = folder.glob(pattern)
    return file


def files_in(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if "eye" in file.name}


@pytest.fixture(params=SOURCES)
def predicted(request, tmp_path):
    """The data set of a source image, and the folder of its results."""
    pixels, sop_class, elements = SOURCES[request.param]
    (tmp_path / "in").mkdir()
    source = write_source(tmp_path / "in" / "eye.dcm", pixels, sop_class, **elements)
    _, failures = predict(tmp_path / "in", tmp_path / "out")
    assert not failures
    return source, tmp_path / "out"


def test_the_segmentation_is_the_mask_on_the_stored_pixels_and_refers_to_the_image(predicted):
    source, out = predicted
    mask = np.asarray(Image.open(only(out, "*_mask.png"))) > 0
    read = hd.seg.segread(only(out, "*_seg.dcm"))
    found = read.get_pixels_by_source_instance([source.SOPInstanceUID])
    assert mask.shape == (source.Rows, source.Columns)
    np.testing.assert_array_equal(found[0, ..., 0] > 0, mask)
    assert read.StudyInstanceUID == source.StudyInstanceUID and read.PatientID == "P7"
    assert read.PatientName == "Mustermann^Erika" and "FrameOfReferenceUID" not in read
    assert read.get_source_image_uids() == [
        (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
    ]
    segment = read.get_segment_description(1)
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC" and algorithm.AlgorithmName == "darkness"
    assert f"weights_sha256={'0' * 64}" in algorithm.AlgorithmParameters
    assert segment.segmented_property_type.scheme_designator == SCHEME


def test_the_structured_report_has_the_measurements_of_the_table(predicted):
    source, out = predicted
    report = hd.sr.srread(only(out, "*_sr.dcm"))
    (group,) = report.content.get_planar_roi_measurement_groups()
    found = {m.name.value: (m.value, m.unit.value) for m in group.get_measurements()}
    mask = np.asarray(Image.open(only(out, "*_mask.png"))) > 0
    (row,) = rows_of(out / "measurements.csv")
    assert found == {
        "42798000": (pytest.approx(mask.sum() * 0.02**2), "mm2"),
        "ISCHAEMIC_INDEX": (pytest.approx(mask.sum() / int(row["field_of_view_px"])), "1"),
        "NUMBER_OF_AREAS": (int(row["number_of_areas"]), "1"),
    }
    segmentation = dcmread(only(out, "*_seg.dcm"))
    frame, image = group.referenced_segmentation_frame
    assert frame.referenced_sop_instance_uid == segmentation.SOPInstanceUID
    assert image.referenced_sop_instance_uid == source.SOPInstanceUID
    referenced = {uids[2] for uids in report.get_evidence()}
    assert referenced == {source.SOPInstanceUID, segmentation.SOPInstanceUID}
    assert group.finding_sites[0].laterality.meaning == "Right"


def test_dciodvfy_finds_no_error(predicted):
    program = shutil.which("dciodvfy") or pytest.skip("no dciodvfy: apt-get install dicom3tools")
    for file in sorted(predicted[1].glob("*.dcm")):
        checked = subprocess.run([program, "-new", str(file)], capture_output=True, text=True)
        assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []


def test_the_same_result_has_the_same_bytes_and_another_one_other_uids(tmp_path):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "eye.dcm")
    for output in ("one", "two"):
        predict(tmp_path / "in", tmp_path / output)
    assert len(files_in(tmp_path / "one")) == 6
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    predict(tmp_path / "in", tmp_path / "three", network())
    for ending in ("*_seg.dcm", "*_sr.dcm"):
        first, other = (dcmread(only(tmp_path / name, ending)) for name in ("one", "three"))
        assert first.SOPInstanceUID != other.SOPInstanceUID
        assert (first.ContentDate, first.ContentTime) == ("20240131", "101500")
    report = hd.sr.srread(only(tmp_path / "three", "*_sr.dcm"))
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert "42798000" not in {m.name.value for m in group.get_measurements()}  # no mm² without spacing


def test_a_de_identified_image_stays_so(tmp_path):
    (tmp_path / "Mustermann").mkdir()
    removed = {"PatientName": "", "PatientIdentityRemoved": "YES", "ContentDate": "", "ContentTime": ""}
    write_source(tmp_path / "Mustermann" / "eye.dcm", PatientID="", **removed)
    predict(tmp_path / "Mustermann", tmp_path / "out")
    for file in (tmp_path / "out").glob("*.dcm"):
        read = dcmread(file)
        assert not read.PatientName and not read.PatientID and read.PatientIdentityRemoved == "YES"
        assert b"Mustermann" not in file.read_bytes() and read.ContentDate == "19000101"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞")],
)
def test_a_header_in_japanese_or_korean_is_written_as_utf8(tmp_path, character_set, name):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "eye.dcm", SpecificCharacterSet=character_set, PatientName=name)
    _, failures = predict(tmp_path / "in", tmp_path / "out")
    assert not failures
    written = list((tmp_path / "out").glob("*.dcm"))
    assert len(written) == 2
    for file in written:
        read = dcmread(file)
        assert read.SpecificCharacterSet == "ISO_IR 192" and str(read.PatientName) == name


def test_invalid_private_elements_do_no_harm(tmp_path):
    (tmp_path / "in").mkdir()
    source = write_source(tmp_path / "in" / "eye.dcm")
    block = source.private_block(0x0099, "vendor", create=True)
    block.add_new(1, "UN", b"abc")
    block.add_new(2, "FD", 1.0)
    source.save_as(tmp_path / "in" / "eye.dcm")
    content = (tmp_path / "in" / "eye.dcm").read_bytes()
    field = b"\x99\x00\x02\x10FD\x08\x00" + struct.pack("<d", 1.0)
    assert content.count(field) == 1
    (tmp_path / "in" / "eye.dcm").write_bytes(content.replace(field, b"\x99\x00\x02\x10FD\x04\x00abcd"))
    _, failures = predict(tmp_path / "in", tmp_path / "out")
    assert not failures and len(list((tmp_path / "out").glob("*.dcm"))) == 2


def test_a_header_without_uids_or_with_invalid_values_is_refused_without_the_name(tmp_path):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "a.dcm", StudyInstanceUID="")
    write_source(tmp_path / "in" / "b.dcm", PatientSex="MUSTERMANN")
    _, failures = predict(tmp_path / "in", tmp_path / "out")
    assert "a.dcm: no DICOM objects: its header lacks StudyInstanceUID" in failures[0]
    assert "b.dcm: no DICOM objects: its header has invalid values (ValueError)" in failures[1]
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 2, "all other results are written"
    assert "mustermann" not in str(failures).lower()


def test_a_mask_of_another_size_than_the_image_is_refused(tmp_path):
    write_source(tmp_path / "eye.dcm")
    with pytest.raises(UserError, match="the mask has 160 rows and 161 columns, its header says 160 and 160"):
        dicom_objects(tmp_path / "eye.dcm", "0", np.zeros((160, 161), bool), {})


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_headers_of_real_devices(tmp_path, name):
    """They have a position in space; the segmentation refers to the pixels."""
    row = {
        "structure": "vessel",
        "area_mm2": None,
        "area_fraction": 0.5,
        "number_of_areas": 1,
        "model": "m\\眼",
    }
    row |= {
        "weights_sha256": "0",
        "architecture": "a",
        "threshold": 0.5,
        "min_area_px": 0,
        "pixel_spacing_mm": None,
    }
    file = get_testdata_file(name)
    source = dcmread(file)
    mask = np.tri(source.Rows, source.Columns) > 0
    for kind, content in dicom_objects(file, "0", mask, row).items():
        (tmp_path / kind).write_bytes(content)
    read = hd.seg.segread(tmp_path / "segmentation")
    found = read.get_pixels_by_source_instance([source.SOPInstanceUID])
    np.testing.assert_array_equal(found[0, ..., 0] > 0, mask)
    assert read.get_segment_description(1).segmented_property_type.meaning == "vessel"
    assert hd.sr.srread(tmp_path / "structured_report").PatientID == source.PatientID


def test_other_files_than_dicom_have_no_dicom_object_and_a_line_says_so(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(ANGIOGRAM).save(tmp_path / "in" / "eye.png")
    _, failures = predict(tmp_path / "in", tmp_path / "out")
    assert not failures and len(files_in(tmp_path / "out")) == 4
    assert "eye.png: no DICOM source: no DICOM object" in capsys.readouterr().out
    predict(tmp_path / "in", tmp_path / "out")
    assert "1 of 1 images skipped" in capsys.readouterr().out


def test_a_later_run_adds_the_objects_and_removes_them_when_they_are_of_other_settings(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "eye.dcm")
    out = tmp_path / "in" / "out"  # the objects are not predicted, though they are DICOM files
    predict(tmp_path / "in", out, dicom=False)
    assert not list(out.glob("*.dcm"))
    predict(tmp_path / "in", out)
    written = files_in(out)
    assert len(written) == 6
    capsys.readouterr()
    for dicom in (True, False):
        predict(tmp_path / "in", out, dicom=dicom)
        assert files_in(out) == written and "1 of 1 images skipped" in capsys.readouterr().out
    predict(tmp_path / "in", out, network(), dicom=False)
    assert len(files_in(out)) == 4


def test_a_changed_object_is_not_overwritten(tmp_path):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "eye.dcm")
    predict(tmp_path / "in", tmp_path / "out")
    changed = only(tmp_path / "out", "*_seg.dcm")
    changed.write_bytes(b"corrected")
    with pytest.raises(FilesChanged, match=r"_seg\.dcm: not written by run_prediction\.py, or changed since"):
        predict(tmp_path / "in", tmp_path / "out", network())
    assert changed.read_bytes() == b"corrected"
    predict(tmp_path / "in", tmp_path / "out", network(), overwrite=True)
    assert hd.seg.segread(changed).Rows == 160


def test_a_segmentation_is_not_predicted(tmp_path):
    (tmp_path / "in").mkdir()
    write_source(tmp_path / "in" / "eye.dcm")
    predict(tmp_path / "in", tmp_path / "out")
    copied = shutil.copy(only(tmp_path / "out", "*_seg.dcm"), tmp_path / "copied.dcm")
    with pytest.raises(UserError, match="is a DICOM Segmentation, a result"):
        predict_file(network(), copied)


def test_the_script_names_the_requirements_if_highdicom_is_missing(tmp_path):
    (tmp_path / "highdicom.py").write_text("raise ModuleNotFoundError(name='highdicom')")
    command = [sys.executable, str(PROJECT / "run_prediction.py"), str(tmp_path), "--dicom"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "pip install -r requirements/dicom_output.txt" in done.stderr


def test_objects_of_other_images_are_added_although_an_outline_was_corrected(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_source(tmp_path / "in" / f"{name}.dcm")
    out = tmp_path / "out"
    predict(tmp_path / "in", out, dicom=False)
    corrected, other = sorted(out.glob("*.json"))
    corrected.write_text("{}")
    predict(tmp_path / "in", out)
    assert corrected.read_text() == "{}"
    objects = {f"{other.stem}_seg.dcm", f"{other.stem}_sr.dcm"}
    assert {file.name for file in out.glob("*.dcm")} == objects
