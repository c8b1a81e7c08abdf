import csv
import dataclasses
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from lib.archive import find_images, predict_images, read_fovea
from lib.configuration.reading import read_configuration
from lib.datasets.ffa import find_angiograms, read_angiogram
from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
from lib.images.masks import binary_mask
from lib.prediction import predict_file
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from tests.conftest import weightless_network
from tests.lib.test_images import write_dicom

CONFIGURATION = read_configuration(DEFAULT_CONFIGURATION)


def darkness(images):
    """A network that takes dark pixels for non-perfusion."""
    return 1 - images


def network(**changes):
    settings = dataclasses.replace(CONFIGURATION.testing_settings, window="whole", **changes)
    return weightless_network(
        darkness,
        CONFIGURATION,
        testing_settings=settings,
        threshold=0.8,
        threshold_source="a test",
        min_area_px=30,
    )


@pytest.fixture(scope="module")
def angiograms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("angiograms")
    write_synthetic_angiograms(folder, 3, seed=4, size=160)
    for file in folder.glob("*.json"):
        file.unlink()
    return folder


def rows_of(table):
    with table.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_files_and_folders_are_found_once_and_results_named_apart(tmp_path):
    for name in ("a/1.png", "b/1.png", "b/deep/2.PNG", "b/out/1_overlay.png", "b/readme.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    given = [tmp_path / "a" / "1.png", tmp_path / "b", tmp_path / "a" / "1.png"]
    found = find_images(given, tmp_path / "b" / "out")
    assert [(f.file.relative_to(tmp_path).as_posix(), f.name) for f in found] == [
        ("a/1.png", "1"),
        ("b/1.png", "1_2"),
        ("b/deep/2.PNG", "2"),
    ]


def test_a_numbered_name_is_not_given_twice(tmp_path):
    for name in ("a/1.png", "b/1.png", "c/1_2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    found = find_images(sorted(tmp_path.iterdir()), tmp_path / "out")
    assert len({f.name for f in found}) == 3


def test_what_is_not_there_is_listed_whole(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "no.png", tmp_path / "empty"], tmp_path / "out")
    assert "no.png: no such file" in str(caught.value) and "empty: holds no image" in str(
        caught.value
    )


def test_every_image_leaves_four_files_and_a_row_and_a_bad_one_a_line(angiograms, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    output = tmp_path / "out"
    images = find_images([angiograms, bad], output)
    table, failures = predict_images(network(), images, output, {})
    assert len(failures) == 1 and "bad.png" in failures[0]
    names = sorted(file.stem for file in angiograms.glob("*.png"))
    endings = (".json", "_mask.png", "_overlay.png", "_probability.png")
    expected = [f"{name}{ending}" for name in names for ending in endings]
    assert sorted(f.name for f in output.iterdir()) == sorted([*expected, "measurements.csv"])
    for row, name in zip(rows_of(table), names, strict=True):
        mask = np.asarray(Image.open(output / f"{name}_mask.png")) > 0
        assert row["image"] == str(angiograms / f"{name}.png")
        assert int(row["area_px"]) == mask.sum() > 0 and row["area_mm2"] == ""
        assert float(row["ischaemic_index"]) == pytest.approx(
            mask.sum() / int(row["field_of_view_px"]), rel=1e-5
        )
        assert (row["threshold"], row["threshold_source"]) == ("0.8", "a test")
        levels = np.asarray(Image.open(output / f"{name}_probability.png"))
        prediction = predict_file(network(), angiograms / f"{name}.png")
        assert np.abs(levels / 65535 - prediction.probability).max() <= 0.5 / 65535 + 1e-7


def test_preparing_takes_the_labelme_files_as_truth(angiograms, tmp_path):
    """Also where an information banner was left out of the prediction, and cuts the truth alike."""
    from lib.images.info_banner import find_banner

    folder = tmp_path / "corrected"
    folder.mkdir()
    for file in sorted(angiograms.glob("*.png")):
        picture = np.asarray(Image.open(file).convert("L"))
        banner = np.zeros((24, picture.shape[1]), np.uint8)
        banner[8:16, 10:100:3] = 255
        Image.fromarray(np.concatenate([picture, banner])).save(folder / file.name)
        assert find_banner(np.concatenate([picture, banner]))
    predict_images(network(), find_images([folder], folder / "out"), folder / "out", {})
    for file in (folder / "out").glob("*.json"):
        assert json.loads(file.read_text())["imagePath"] == f"../{file.stem}.png"
        file.rename(folder / file.name)
    found, faults = find_angiograms(folder)
    assert len(found) == 3 and not faults
    for angiogram in found:
        prepared, banner = read_angiogram(angiogram, CONFIGURATION.preparation)
        prediction = predict_file(network(), angiogram.image)
        mask = binary_mask(prediction.probability, prediction.field_of_view, 0.8, 30)
        assert banner.size == 24 and not mask[-24:].any() and not prediction.original[-24:].any()
        truth = prepared.truth > 0
        assert (truth & mask[:-24]).sum() >= 0.99 * (truth | mask[:-24]).sum()


def test_interruption_keeps_the_rows_that_are_done(angiograms, tmp_path):
    calls = []

    def interrupted(images):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return darkness(images)

    stopping = dataclasses.replace(network(), predict=interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_images(stopping, find_images([angiograms], tmp_path), tmp_path, {})
    assert len(rows_of(tmp_path / "measurements.csv")) == 2


def test_what_was_interrupted_goes_on_and_nothing_of_other_settings_is_kept(angiograms, tmp_path):
    calls = []

    def counted(images):
        calls.append(1)
        return darkness(images)

    def predicted(**changes) -> int:
        calls.clear()
        counting = dataclasses.replace(network(), predict=counted, **changes)
        _, failures = predict_images(counting, images, tmp_path, {})
        assert not failures
        return len(calls)

    images = find_images([angiograms], tmp_path)
    table, partial = tmp_path / "measurements.csv", tmp_path / "measurements.partial.csv"
    assert predicted() == 3 and not partial.exists()
    whole = table.read_bytes()
    assert predicted() == 0 and table.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    table.unlink()
    partial.write_bytes(b"".join(lines[:3]) + lines[3][:40])  # a power cut in the third image
    assert predicted() == 1 and table.read_bytes() == whole
    (tmp_path / f"{images[1].name}_mask.png").unlink()
    assert predicted() == 1 and table.read_bytes() == whole
    os.utime(tmp_path / f"{images[0].name}.json", (1, 1))  # the image is newer
    assert predicted() == 1 and table.read_bytes() == whole
    assert predicted(threshold=0.7) == 3
    assert {row["threshold"] for row in rows_of(table)} == {"0.7"}


def test_a_fovea_adds_quadrants_and_with_the_spacing_rings(angiograms, tmp_path):
    images = find_images([angiograms], tmp_path)[:1]
    fovea = read_fovea("80,75.5", images)
    table, _ = predict_images(network(pixel_spacing_mm=0.02), images, tmp_path, fovea)
    (row,) = rows_of(table)
    assert (row["fovea_row"], row["fovea_column"], row["pixel_spacing_mm"]) == (
        "80",
        "75.5",
        "0.02 0.02",
    )
    quadrants = sum(int(row[f"area_px_{q}"]) for q in ("superior", "inferior", "left", "right"))
    assert quadrants == int(row["area_px"]) and row["ischaemic_index_inner_ring"] != ""
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.0004)


def test_foveae_of_many_images_come_from_a_table(angiograms, tmp_path):
    images = find_images([angiograms], tmp_path)
    file = tmp_path / "fovea.csv"
    file.write_text(f"image,row,column\n{images[1].file.name},12,34\n")
    assert read_fovea(str(file), images) == {images[1].file: (12.0, 34.0)}
    file.write_text("image,row,column\nother.png,12,34\n")
    with pytest.raises(UserError, match=r"other\.png: no such image"):
        read_fovea(str(file), images)


@pytest.mark.parametrize("text", ["12", "a,b", "1,2,3", "no.csv"])
def test_a_fovea_that_cannot_be_read_is_named(angiograms, tmp_path, text):
    with pytest.raises(UserError, match="expected"):
        read_fovea(text, find_images([angiograms], tmp_path)[:1])


def test_one_fovea_for_several_images_is_refused(angiograms, tmp_path):
    with pytest.raises(UserError, match="one position, 3 images"):
        read_fovea("1,2", find_images([angiograms], tmp_path))


ODD_NAMES = [
    "a b",
    'it\'s "quoted"',
    "two\nlines",
    "100% %s",
    "眼底 血管",
    "-dash",
    "é" * 125,
    "血" * 83,
    b"\xff\xfe",
]


def test_images_of_any_name_are_predicted(angiograms, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture = next(angiograms.glob("*.png")).read_bytes()
    for name in ODD_NAMES:
        file = folder / f"{os.fsdecode(name)}.png"
        file.write_bytes(picture)
    table, failures = predict_images(network(), find_images([folder], output), output, {})
    assert not failures and len(rows_of(table)) == len(ODD_NAMES)
    for file in output.glob("*.json"):
        named = json.loads(file.read_text())["imagePath"]
        assert (output / named).read_bytes() == picture
        assert len(os.fsencode(file.stem)) <= 200
    assert (output / f"{'血' * 66}_mask.png").is_file()
    assert len(list(output.iterdir())) == 4 * len(ODD_NAMES) + 1


def test_links_that_lead_in_a_circle_are_no_way_in(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").touch()
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "loop").symlink_to(folder / "loop")
    found = find_images([folder], folder / "loop")
    assert [f.file.name for f in found] == ["a.png", "loop.png"]
    _, failures = predict_images(network(), found[1:], tmp_path / "out", {})
    assert failures == [f"{folder / 'loop.png'}: no such file"]


def test_ten_thousand_images_of_one_name_are_told_apart_soon(tmp_path):
    for number in range(10_000):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "0001.png").touch()
    started = time.process_time()
    found = find_images([tmp_path], tmp_path / "out")
    assert len({f.name for f in found}) == 10_000
    assert time.process_time() - started < 3


def test_a_full_disk_is_a_line_for_each_image(angiograms, tmp_path, small_files_only):
    images = find_images([angiograms], tmp_path)
    with small_files_only(2000):
        _, failures = predict_images(network(), images, tmp_path, {})
    assert len(failures) == len(images)
    assert all("_probability.png: cannot be written: File too large" in line for line in failures)
    assert [f.name for f in tmp_path.iterdir()] == ["measurements.csv"]


def test_nothing_of_a_dicom_files_patient_is_written_or_said(angiograms, tmp_path, capfd, caplog):
    caplog.set_level("DEBUG")
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = np.asarray(Image.open(next(angiograms.glob("*.png"))).convert("L"))
    private = {"PatientBirthDate": "19600201", "PatientID": "4711-0815"}
    for name, changes in {
        "good": {},
        "cut": {"Rows": 4000},
        "empty": {"PixelSpacing": ["0.01"]},
    }.items():
        write_dicom(
            folder / f"{name}.dcm", pixels if name != "empty" else None, **private, **changes
        )
    _, failures = predict_images(network(), find_images([folder], output), output, {})
    assert len(failures) == 2
    said = "".join([*capfd.readouterr(), caplog.text, *failures])
    written = b"".join(file.read_bytes() for file in output.iterdir())
    assert len(written) > 1000
    for secret in ("Mustermann", "Erika", "19600201", "4711-0815"):
        assert secret not in said and secret.encode() not in written


@pytest.mark.parametrize(("level", "shape"), [(90, (1, 1)), (90, (128, 128)), (255, (40, 300))])
def test_an_image_of_one_level_has_a_defined_answer(tmp_path, level, shape):
    Image.fromarray(np.full(shape, level, np.uint8)).save(tmp_path / "constant.png")
    images = find_images([tmp_path / "constant.png"], tmp_path)
    table, failures = predict_images(network(), images, tmp_path, {})
    (row,) = rows_of(table)
    assert not failures and int(row["field_of_view_px"]) == shape[0] * shape[1]
    assert 0 <= float(row["ischaemic_index"]) <= 1
