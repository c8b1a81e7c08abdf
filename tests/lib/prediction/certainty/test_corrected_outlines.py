import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lib.datasets.ffa import find_angiograms, read_angiogram
from lib.datasets.patient_split import patient_of
from lib.images.reading import read_image
from lib.prediction.certainty.corrected_outlines import copy_corrected
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.prediction.results_record import image_prefixes
from lib.runtime.errors import UserError
from tests.lib.images.test_reading import write_dicom
from tests.lib.prediction.certainty.test_review_order import mirrored, predicted
from tests.lib.prediction.test_folder import CONFIGURATION

SQUARE = [[40, 40], [79, 40], [79, 79], [40, 79]]


@pytest.fixture
def output(angiograms, tmp_path):
    predicted(mirrored(), angiograms, tmp_path / "out")
    return tmp_path / "out"


def correct(output, angiograms, number):
    """Replace all outlines of an image by a square, as LabelMe saves it; returns the image."""
    image = find_images([angiograms], output)[number]
    file = output / f"{image.name}.json"
    document = json.loads(file.read_text())
    shape = {"label": "NP", "points": SQUARE, "shape_type": "polygon", "group_id": None, "flags": {}}
    file.write_text(json.dumps({**document, "shapes": [shape]}, indent=2))
    return image.file


def test_corrected_outlines_are_the_truth_of_copied_images(output, angiograms, tmp_path):
    image = correct(output, angiograms, 1)
    assert copy_corrected(output, tmp_path / "truth") == 1
    (found,), faults = find_angiograms(tmp_path / "truth")
    assert not faults and found.image.read_bytes() == image.read_bytes() and found.image.name == image.name
    truth = read_angiogram(found, CONFIGURATION.preparation)[0].truth
    expected = np.zeros_like(truth)
    expected[40:80, 40:80] = 1
    np.testing.assert_array_equal(truth, expected)


def test_prefixes_do_not_depend_on_how_the_output_folder_is_written(angiograms, tmp_path, monkeypatch):
    folders = tmp_path / "u" / "archive" / "P01", tmp_path / "scans" / "P02"
    study = tmp_path / "u" / "study"
    study.mkdir(parents=True)
    for folder in folders:
        shutil.copytree(angiograms, folder)
    monkeypatch.chdir(study)
    images = find_images([Path("../archive"), Path("../../scans")], Path("out"))
    predict_images(mirrored(), images, Path("out"), {})
    prefixes = {"u_archive_P01_", "scans_P02_"}
    assert (
        set(image_prefixes(Path("out")).values()) == set(image_prefixes(study / "out").values()) == prefixes
    )


def test_the_set_grows_and_files_of_a_person_are_not_replaced(output, angiograms, tmp_path):
    folder = tmp_path / "truth"
    correct(output, angiograms, 0)
    copy_corrected(output, folder)
    image = correct(output, angiograms, 2)
    assert copy_corrected(output, folder) == 2 and len(list(folder.iterdir())) == 4
    mine = folder / f"{image.stem}.json"
    mine.write_text("{}")
    correct(output, angiograms, 1)
    with pytest.raises(UserError, match="nothing copied") as raised:
        copy_corrected(output, folder)
    assert str(mine) in str(raised.value) and mine.read_text() == "{}" and len(list(folder.iterdir())) == 4


def test_dicom_files_named_by_their_uid_have_the_whole_name(angiograms, tmp_path):
    images, output, folder = tmp_path / "images", tmp_path / "out", tmp_path / "truth"
    images.mkdir()
    names = ["1.2.840.113.1.5", "1.2.840.113.1.6"]
    for name, image in zip(names, sorted(angiograms.iterdir()), strict=False):
        write_dicom(images / name, read_image(image))
    predicted(mirrored(), images, output)
    for number in range(2):
        correct(output, images, number)
    assert copy_corrected(output, folder) == 2
    assert {file.name for file in folder.iterdir()} == {*names, *(f"{name}.json" for name in names)}


def test_copies_of_images_in_several_folders_keep_the_folder_of_their_patient(angiograms, tmp_path):
    images, output, folder = tmp_path / "images", tmp_path / "out", tmp_path / "truth"
    for image, copy in zip(
        sorted(angiograms.iterdir()), ("P01/OD.png", "P01/OS.png", "P02/OD.png"), strict=True
    ):
        (images / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, images / copy)
    predicted(mirrored(), images, output)
    for number in range(3):
        correct(output, images, number)
    assert copy_corrected(output, folder) == 3 == copy_corrected(output, folder)
    found, faults = find_angiograms(folder)
    assert not faults and [a.image.name for a in found] == ["P01_OD.png", "P01_OS.png", "P02_OD.png"]
    assert {patient_of(a.name, CONFIGURATION.preparation.patient_pattern) for a in found} == {"p01", "p02"}
    assert json.loads((folder / "P01_OD.json").read_text())["imagePath"] == "P01_OD.png"


def test_an_image_that_was_replaced_since_is_not_paired_with_the_outlines(angiograms, tmp_path):
    images = shutil.copytree(angiograms, tmp_path / "images")
    predicted(mirrored(), images, tmp_path / "out")
    image = correct(tmp_path / "out", images, 1)
    shutil.copy(next(file for file in images.iterdir() if file.name != image.name), image)
    with pytest.raises(UserError, match="is another image than that of the prediction"):
        copy_corrected(tmp_path / "out", tmp_path / "truth")
    assert not (tmp_path / "truth").exists()


def test_corrections_after_an_interrupted_prediction_wait_for_its_end(output, angiograms, tmp_path):
    correct(output, angiograms, 1)
    (output / "results.partial.jsonl").touch()
    with pytest.raises(UserError, match=r"interrupted; run run_prediction\.py again first"):
        copy_corrected(output, tmp_path / "truth")


def test_without_a_correction_or_a_prediction_there_is_an_error(output, tmp_path):
    with pytest.raises(UserError, match="no LabelMe file was changed"):
        copy_corrected(output, tmp_path / "truth")
    with pytest.raises(UserError, match=r"no results\.jsonl; expected the --output folder"):
        copy_corrected(tmp_path, tmp_path / "truth")
    assert not (tmp_path / "truth").exists()
