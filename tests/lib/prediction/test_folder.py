import base64
import csv
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from lib.configuration.banner import Banner
from lib.configuration.reading import read_configuration
from lib.datasets.ffa import find_angiograms, read_angiogram
from lib.images.checked_files import file_sha256
from lib.images.masks import binary_mask
from lib.prediction.folder import CHANGES_NO_RESULT, _keep, predict_images, settings_sha256
from lib.prediction.found_images import find_images
from lib.prediction.image_file import predict_file
from lib.prediction.results_record import ResultsRecord
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION
from tests.conftest import weightless_network
from tests.lib.images.test_reading import write_dicom

CONFIGURATION = read_configuration(DEFAULT_CONFIGURATION)


def darkness(images):
    """A network whose probability is the darkness of a pixel."""
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


def rows_of(table):
    with table.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


TABLES = {"measurements.csv", "area_sizes.csv", "review_order.csv"}
OTHER_FILES = TABLES | {"results.jsonl", "results.lock", "results.lock.txt"}


def test_an_image_that_was_moved_meanwhile_is_named_and_the_others_are_predicted(angiograms, tmp_path):
    images = find_images([shutil.copytree(angiograms, tmp_path / "in")], tmp_path / "out")

    def moved(levels):
        images[1].file.rename(tmp_path / "moved.png")  # after it was read
        return darkness(levels)

    first = predict_images(network(), images[:1], tmp_path / "out", {})[0]
    moving = dataclasses.replace(network(), predict=moved)
    table, failures = predict_images(moving, images[1:2], tmp_path / "out", {})
    assert failures == [f"{images[1].file}: cannot be read (No such file or directory)"]
    assert first == table and len(rows_of(table)) == 1


def test_each_image_gives_four_files_and_a_row_and_a_faulty_one_a_line(angiograms, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    output = tmp_path / "out"
    images = find_images([angiograms, bad], output)
    table, failures = predict_images(network(), images, output, {})
    assert len(failures) == 1 and "bad.png" in failures[0]
    endings = {"labelme": ".json", **{k: f"_{k}.png" for k in ("mask", "overlay", "probability")}}
    expected = {f"{image.name}{ending}" for image in images[:-1] for ending in endings.values()}
    assert {f.name for f in output.iterdir()} == expected | OTHER_FILES
    for row, image in zip(rows_of(table), images[:-1], strict=True):
        mask = np.asarray(Image.open(output / row["mask_file"])) > 0
        assert (output / row["image"]).samefile(image.file)
        assert all(row[f"{kind}_file"] == f"{image.name}{ending}" for kind, ending in endings.items())
        assert int(row["area_px"]) == mask.sum() > 0 and row["area_mm2"] == ""
        assert float(row["ischaemic_index"]) == pytest.approx(
            mask.sum() / int(row["field_of_view_px"]), rel=1e-5
        )
        assert (row["threshold"], row["threshold_source"]) == ("0.8", "a test")
        overlay = np.asarray(Image.open(output / row["overlay_file"])).astype(int)
        yellow = overlay[..., 0] > overlay[..., 2]
        assert overlay.shape[1] == 1024
        assert yellow[:1024].mean() == pytest.approx(mask.mean(), abs=0.06)  # filled, not only outlined
        levels = np.asarray(Image.open(output / row["probability_file"]))
        prediction = predict_file(network(), image.file)
        assert np.abs(levels / 65535 - prediction.probability).max() <= 0.5 / 65535 + 1e-7


def test_written_labelme_files_are_read_as_truth(angiograms, tmp_path):
    """With an information banner, which is cut off the prediction and the truth."""
    from lib.images.info_banner import find_banner

    folder = tmp_path / "corrected"
    folder.mkdir()
    for file in sorted(angiograms.glob("*.png")):
        picture = np.asarray(Image.open(file).convert("L"))
        banner = np.zeros((24, picture.shape[1]), np.uint8)
        banner[8:16, 10:100:3] = 255
        Image.fromarray(np.concatenate([picture, banner])).save(folder / file.name)
        assert find_banner(np.concatenate([picture, banner]))
    images = find_images([folder], folder / "out")
    predict_images(network(), images, folder / "out", {})
    for image in images:
        file = folder / "out" / f"{image.name}.json"
        assert json.loads(file.read_text())["imagePath"] == f"../{image.file.name}"
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


def test_the_columns_of_the_files_have_the_order_of_the_docs(angiograms, tmp_path):
    table, _ = predict_images(network(tta="mirrors"), find_images([angiograms], tmp_path), tmp_path, {})
    columns = [name for name in rows_of(table)[0] if name.endswith("_file")]
    assert columns == [f"{k}_file" for k in ("probability", "mask", "overlay", "labelme", "disagreement")]


def test_an_interruption_keeps_the_finished_rows(angiograms, tmp_path):
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


def test_an_interrupted_prediction_continues_and_rows_of_other_settings_are_replaced(angiograms, tmp_path):
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
    table = tmp_path / "measurements.csv"
    record, partial = tmp_path / "results.jsonl", tmp_path / "results.partial.jsonl"
    assert predicted() == 3 and not partial.exists()
    whole = table.read_bytes()
    assert predicted() == 0 and table.read_bytes() == whole
    tables, *lines = record.read_bytes().splitlines(keepends=True)
    record.unlink()
    table.unlink()
    partial.write_bytes(b"".join([tables, *lines[:2]]) + lines[2][:40])  # a power cut in the third image
    (tmp_path / f"{images[2].name}.json").unlink()
    for file in tmp_path.glob(f"{images[2].name}_*"):
        file.unlink()
    assert predicted() == 1 and table.read_bytes() == whole
    (tmp_path / f"{images[1].name}_mask.png").unlink()
    assert predicted() == 1 and table.read_bytes() == whole
    assert predicted(threshold=0.7) == 3
    assert {row["threshold"] for row in rows_of(table)} == {"0.7"}
    known = dataclasses.replace(network().testing_settings, training_field_of_view_degrees=45)
    other = dataclasses.replace(known, test_field_of_view_degrees=30)
    assert predicted(threshold=0.7, testing_settings=known) == 0  # the angle alone changes no prediction
    assert predicted(threshold=0.7, testing_settings=other) == 3
    assert {row["field_of_view_degrees"] for row in rows_of(table)} == {"30"}


def test_results_stay_if_the_unchanged_image_cannot_be_read_or_a_file_not_be_replaced(angiograms, tmp_path):
    copies, output = shutil.copytree(angiograms, tmp_path / "copies"), tmp_path / "out"
    images = find_images([copies], output)
    predict_images(network(), images, output, {})
    written = {file.name for file in output.iterdir()}
    images[0].file.unlink()
    images[0].file.symlink_to("/proc/self/mem")  # reading it is an input/output error
    blocked = output / f"{images[1].name}_overlay.png"
    blocked.unlink()
    (blocked / "mine").mkdir(parents=True)
    changed = dataclasses.replace(network(), threshold=0.7)
    table, failures = predict_images(changed, images, output, {}, overwrite=True)
    assert len(failures) == 2 and str(images[0].file) in failures[0] and images[1].name in failures[1]
    assert {file.name for file in output.iterdir()} == written
    assert [row["threshold"] for row in rows_of(table)] == ["0.8", "0.8", "0.7"]


def test_a_failure_in_a_process_of_a_cluster_names_the_image(angiograms, tmp_path):
    image = find_images([angiograms], tmp_path)[0]
    record = ResultsRecord(tmp_path, overwrite=False)
    assert (
        _keep(record, image, "WorkerCrashedError: killed", "") == f"{image.file}: WorkerCrashedError: killed"
    )


def test_the_report_has_the_results_of_a_run_that_was_killed_before_its_end(angiograms, tmp_path):
    images = find_images([angiograms], tmp_path)
    predict_images(network(), images[:2], tmp_path, {}, report=True)
    of_two = {name: (tmp_path / name).read_bytes() for name in (*TABLES, "results.jsonl", "report.html")}
    predict_images(network(), images, tmp_path, {}, report=True)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    (third,) = (line for line in lines if json.loads(line).get("image") == images[2].text)
    for name, content in of_two.items():  # as after a kill: the files are written, the tables are not
        (tmp_path / name).write_bytes(content)
    (tmp_path / "results.partial.jsonl").write_text(third)
    predict_images(network(), images, tmp_path, {})
    report = (tmp_path / "report.html").read_text()
    assert all(image.file.name in report for image in images)


def test_a_fovea_adds_quadrants_and_with_the_spacing_also_rings(angiograms, tmp_path):
    images = find_images([angiograms], tmp_path)[:1]
    fovea = {images[0].file: (80, 75.5)}
    table, _ = predict_images(network(pixel_spacing_mm=0.02), images, tmp_path, fovea)
    (row,) = rows_of(table)
    assert (row["fovea_row"], row["fovea_column"], row["pixel_spacing_mm"]) == ("80", "75.5", "0.02 0.02")
    quadrants = sum(int(row[f"area_px_{q}"]) for q in ("superior", "inferior", "left", "right"))
    assert quadrants == int(row["area_px"]) and row["ischaemic_index_inner_ring"] != ""
    assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.0004)


def test_a_fovea_outside_the_image_names_the_file(angiograms, tmp_path):
    images = find_images([angiograms], tmp_path)[:1]
    _, failures = predict_images(network(), images, tmp_path, {images[0].file: (1000, 3)})
    assert len(failures) == 1 and failures[0].startswith(f"{images[0].file}: the fovea, row 1000")


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
    assert len(list(output.iterdir())) == 4 * len(ODD_NAMES) + len(OTHER_FILES)


def test_circular_links_are_not_followed(tmp_path):
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


def test_a_full_disk_gives_a_line_for_each_image(angiograms, tmp_path, small_files_only):
    images = find_images([angiograms], tmp_path)
    with small_files_only(2000):
        _, failures = predict_images(network(), images, tmp_path, {})
    assert len(failures) == len(images)
    assert all("cannot be written: File too large" in line for line in failures)
    assert {f.name for f in tmp_path.iterdir()} == OTHER_FILES


def test_the_labelme_file_holds_the_picture_so_that_labelme_opens_it_anywhere(angiograms, tmp_path):
    pixels = np.asarray(Image.open(next(angiograms.glob("*.png"))).convert("L"))
    (tmp_path / "in").mkdir()
    write_dicom(tmp_path / "in" / "IM0001", pixels)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    images = find_images([tmp_path / "in"], tmp_path / "out")
    predict_images(network(), images, tmp_path / "out", {})
    for image in images:
        document = json.loads((tmp_path / "out" / f"{image.name}.json").read_text())
        picture = base64.b64decode(document["imageData"])
        np.testing.assert_array_equal(Image.open(io.BytesIO(picture)).convert("L"), pixels)


def test_a_file_of_another_program_under_the_name_of_the_partial_record_is_refused(angiograms, tmp_path):
    (tmp_path / "results.partial.jsonl").write_text('{"accuracy": 0.9}\n')
    with pytest.raises(
        UserError, match=r"results\.partial\.jsonl: line 1: not as run_prediction\.py wrote it"
    ):
        predict_images(network(), find_images([angiograms], tmp_path), tmp_path, {})
    assert (tmp_path / "results.partial.jsonl").read_text() == '{"accuracy": 0.9}\n'


def test_the_number_of_images_that_are_skipped_is_printed(angiograms, tmp_path, capsys):
    for _ in range(2):
        predict_images(network(), find_images([angiograms], tmp_path), tmp_path, {})
    number = len(find_images([angiograms], tmp_path))
    assert f"of {number} images skipped: they have results of this content" in capsys.readouterr().out


def test_no_data_of_a_dicom_patient_are_written_or_printed(angiograms, tmp_path, capfd, caplog):
    caplog.set_level("DEBUG")
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = np.asarray(Image.open(next(angiograms.glob("*.png"))).convert("L"))
    private = {"PatientBirthDate": "19600201", "PatientID": "4711-0815"}
    for name, changes in {"good": {}, "cut": {"Rows": 4000}, "empty": {"PixelSpacing": ["0.01"]}}.items():
        write_dicom(folder / f"{name}.dcm", pixels if name != "empty" else None, **private, **changes)
    _, failures = predict_images(network(), find_images([folder], output), output, {})
    assert len(failures) == 2
    printed = "".join([*capfd.readouterr(), caplog.text, *failures])
    written = b"".join(file.read_bytes() for file in output.iterdir())
    assert len(written) > 1000
    for secret in ("Mustermann", "Erika", "19600201", "4711-0815"):
        assert secret not in printed and secret.encode() not in written


@pytest.mark.parametrize(("level", "shape"), [(90, (1, 1)), (90, (128, 128)), (255, (40, 300))])
def test_an_image_of_one_level_has_a_defined_result(tmp_path, level, shape):
    Image.fromarray(np.full(shape, level, np.uint8)).save(tmp_path / "constant.png")
    images = find_images([tmp_path / "constant.png"], tmp_path)
    table, failures = predict_images(network(), images, tmp_path, {})
    (row,) = rows_of(table)
    assert not failures and int(row["field_of_view_px"]) == shape[0] * shape[1]
    assert 0 <= float(row["ischaemic_index"]) <= 1


def test_a_dark_image_with_a_mark_does_not_stop_the_others(angiograms, tmp_path):
    preprocessing = dataclasses.replace(CONFIGURATION.preprocessing, field_of_view_diameter=64)
    resampling = dataclasses.replace(network(), preprocessing=preprocessing)
    dark = np.zeros((512, 512), np.uint8)
    dark[100:108, 100:108] = 200
    Image.fromarray(dark).save(tmp_path / "a dark.png")
    Image.fromarray(np.resize(np.arange(90, 250, dtype=np.uint8), (2, 2100))).save(tmp_path / "b narrow.png")
    images = find_images([tmp_path, angiograms], tmp_path / "out")
    table, (failure,) = predict_images(resampling, images, tmp_path / "out", {})
    assert failure.startswith(f"{tmp_path / 'a dark.png'}: its field of view is only 8x8 pixels of 512x512 ")
    assert len(rows_of(table)) == len(images) - 1 == 4


def without_memory(images):
    raise UserError("not enough memory")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"info_banner": Banner("bottom", 1000)}, "info_banner = bottom:1000 leaves nothing"),
        ({"predict": without_memory}, "not enough memory"),
    ],
)
def test_an_error_of_the_settings_or_of_the_network_names_the_file(angiograms, tmp_path, changes, said):
    images = find_images([angiograms], tmp_path)
    _, failures = predict_images(dataclasses.replace(network(), **changes), images, tmp_path, {})
    for image, failure in zip(images, failures, strict=True):
        assert failure.startswith(f"{image.file}: {said}")


def sha256_with(**changes):
    settings = dataclasses.replace(CONFIGURATION.testing_settings, **changes)
    return settings_sha256(weightless_network(darkness, CONFIGURATION, testing_settings=settings), None)


def test_settings_that_change_no_result_do_not_make_earlier_results_invalid():
    others = {"test_batch_size": 64, "full_images_to_test": 2, "N_group_visual": 3}
    others |= {"connectivity": True, "nohup": True}
    assert others.keys() == CHANGES_NO_RESULT.keys()
    assert {sha256_with(**{key: value}) for key, value in others.items()} == {sha256_with()}
    assert sha256_with(tta="mirrors") != sha256_with()


def test_the_hash_of_the_default_settings_is_that_of_earlier_versions():
    """It changes with a default of `configuration.txt`; a new key must leave it as it is (`repr=False`)."""
    assert sha256_with() == "fc3c32255b2d1d1beca98fdff3b329548749891b76b7e34f497b6d5a7fef4d42"


def test_the_formats_of_figures_do_not_make_earlier_results_invalid():
    """`repr` of the settings is hashed; results of versions without this key have a hash without it."""
    assert "figure_formats" not in repr(CONFIGURATION.testing_settings)


def test_an_image_that_trained_the_network_is_named(angiograms, tmp_path, capsys):
    image, *_ = find_images([angiograms], tmp_path)
    seen = dataclasses.replace(network(), seen_images_sha256=frozenset([file_sha256(image.file)]))
    predict_images(seen, find_images([angiograms], tmp_path), tmp_path, {})
    assert capsys.readouterr().out.count("this image was used to train the network") == 1
