"""An output folder that many runs write to: no result is mixed up, lost, or of an earlier content."""

import csv
import dataclasses
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.configuration.folder_lock import FolderLocked
from lib.images.masks import binary_mask
from lib.prediction.folder import predict_images, predict_one
from lib.prediction.found_images import FoundImage, find_images
from lib.prediction.image_file import predict_file
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.lib.prediction.test_folder import darkness, network, rows_of

EYES = ("OD.png", "OS.png", "OD.tif")
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # fsync takes no time there
LOCKS = {"results.lock", "results.lock.txt"}


def tiny(**changes):
    return dataclasses.replace(network(), threshold=0.6, min_area_px=1, **changes)


def write_archive(folder: Path, number: int) -> list[Path]:
    """So many images of 12 x 12 pixels with different content; patients have files of the same names."""
    generator = np.random.default_rng(7)
    files = [folder / f"P{i // len(EYES):02}" / EYES[i % len(EYES)] for i in range(number)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(40, 250, (12, 12), np.uint8)).save(file)
    return files


@functools.cache
def predicted(image: FoundImage, data: bytes):
    """The outcome of an image of this content, computed once."""
    assert image.file.read_bytes() == data
    return predict_one(tiny(), image)


def predict(given: list[Path], output: Path, *, killed_at: int | None = None, **options) -> list[str]:
    """Predict; Ctrl-C is pressed before the prediction number `killed_at`."""

    def outcomes(images):
        for number, image in enumerate(images, 1):
            if number == killed_at:
                raise KeyboardInterrupt
            yield image, predicted(image, image.file.read_bytes())

    _, failures = predict_images(tiny(), find_images(given, output), output, {}, outcomes, **options)
    return failures


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name not in LOCKS}


@functools.cache
def shown_by(image: Path, data: bytes):
    assert image.read_bytes() == data
    return predict_file(tiny(), image)


def assert_rows_show_their_images(output: Path) -> None:
    rows = rows_of(output / "measurements.csv")
    shown = set()
    for row in rows:
        image = output / row["image"]
        prediction = shown_by(image, image.read_bytes())
        mask = binary_mask(prediction.probability, prediction.field_of_view, 0.6, 1)
        levels = np.asarray(Image.open(output / row["probability_file"]))
        assert np.abs(levels / 65535 - prediction.probability).max() < 1e-4
        assert (np.asarray(Image.open(output / row["mask_file"])) == mask * 255).all()
        document = json.loads((output / row["labelme_file"]).read_text())
        assert (output / document["imagePath"]).samefile(image)
        shown.add(levels.tobytes())
    assert len(shown) == len(rows)  # no two images look the same


def grow_and_compare(number: int, seed: int) -> None:
    """Runs over a changing archive, some of them killed, end with the files of one run over the whole archive."""
    generator = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        archive, kept, output = (Path(name) / part for part in ("archive", "kept", "out"))
        files = write_archive(archive, number)
        predict([archive], Path(name) / "clean")
        shutil.copytree(archive, kept)
        for _ in range(3):
            for file in files:  # some are added, some removed, some have the content of another one
                source = generator.choice([file, file, files[0], None])
                file.unlink(missing_ok=True)
                if source:
                    shutil.copy(kept / source.relative_to(archive), file)
            there = [file for file in files if file.exists()]
            asked = generator.choice([[archive], generator.sample(there, len(there) // 2)])
            with suppress(KeyboardInterrupt):
                predict(asked, output, killed_at=generator.choice([None, generator.randint(1, number)]))
        shutil.copytree(kept, archive, dirs_exist_ok=True)
        folders = sorted(archive.iterdir())
        assert not predict(generator.sample(folders, len(folders)), output)
        assert content(output) == content(Path(name) / "clean")
        assert_rows_show_their_images(output)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_any_order_of_runs_gives_the_files_of_one_run(seed):
    grow_and_compare(20, seed)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_runs_gives_the_files_of_one_run_of_200_images(seed):
    grow_and_compare(200, seed)


STOPPED_AT_EACH_RENAME = """
import os, signal, sys
from pathlib import Path
from tests.lib.prediction.test_folder import rows_of
from tests.lib.prediction.test_growing_archive import predict

archive, output, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
predict([archive], output / "warm")  # the child processes take its predictions
for number in range(1, 100):
    child = os.fork()
    if not child:
        renames = iter(range(1, 100))
        def hook(event, _):
            if event == "os.rename" and next(renames) == number:
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
        sys.addaudithook(hook)
        try:
            predict([archive], output / str(number))
        except KeyboardInterrupt:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    for row in rows_of(output / str(number) / "measurements.csv"):  # no row of other files
        labelme = (output / str(number) / row["labelme_file"]).read_text()
        assert ('"earlier"' in labelme) == (row["threshold"] == "0.5"), number
    predict_again = os.fork()
    if not predict_again:
        os._exit(len(predict([archive], output / str(number))))
    assert os.waitpid(predict_again, 0)[1] == 0, number
print(number)
"""


@pytest.mark.parametrize("how", ["kill", "Ctrl-C"])
def test_a_stop_at_any_moment_of_writing_is_continued(how):
    """The folder holds results of another label and threshold, so that a kill leaves files of both."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        archive, out = Path(name) / "in", Path(name) / "out"
        write_archive(archive, 1)
        predict([archive], out / "clean")
        earlier = dataclasses.replace(tiny(), label="earlier", threshold=0.5)
        predict_images(earlier, find_images([archive], out / "earlier"), out / "earlier", {})
        for number in range(1, 20):
            shutil.copytree(out / "earlier", out / str(number))
        command = [sys.executable, "-c", STOPPED_AT_EACH_RENAME, archive, out, how]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        renames = int(done.stdout.splitlines()[-1])
        assert 10 < renames < 20
        for number in range(1, renames):
            found = {n: c for n, c in content(out / str(number)).items() if n[0] != "."}
            assert found == content(out / "clean"), number


def test_a_patient_is_added_to_an_archive(tmp_path):
    """The case growing_archive: each patient's file has the same name."""
    write_archive(tmp_path / "in", 5 * len(EYES))
    patients = sorted((tmp_path / "in").iterdir())
    later = patients.pop(2)
    output = tmp_path / "out"
    predict(patients, output)
    before = content(output)
    predict([*patients[:2], later, *patients[2:]], output)
    after = content(output)
    assert {name: after[name] for name in before if name.startswith("P")} == {
        name: data for name, data in before.items() if name.startswith("P")
    }
    assert len(rows_of(output / "measurements.csv")) == 15
    assert_rows_show_their_images(output)


def test_another_content_with_an_older_time_is_predicted_again(tmp_path):
    """The case stale."""
    one, other = write_archive(tmp_path / "in", 2)
    predict([one], tmp_path / "out")
    other.replace(one)
    os.utime(one, (1, 1))
    predict([one], tmp_path / "out")
    assert len(rows_of(tmp_path / "out" / "measurements.csv")) == 1
    assert_rows_show_their_images(tmp_path / "out")


def test_the_rows_of_other_images_stay(tmp_path):
    one, other = write_archive(tmp_path / "in", 2)
    predict([one], tmp_path / "out")
    first = rows_of(tmp_path / "out" / "measurements.csv")
    predict([other], tmp_path / "out")
    assert rows_of(tmp_path / "out" / "measurements.csv")[0] == first[0]
    assert_rows_show_their_images(tmp_path / "out")


def test_an_image_that_becomes_unreadable_has_no_result(tmp_path):
    one, other = write_archive(tmp_path / "in", 2)
    predict([one, other], tmp_path / "out")
    one.write_text("no picture")
    (failure,) = predict([one, other], tmp_path / "out")
    assert str(one) in failure
    assert {row["image"] for row in rows_of(tmp_path / "out" / "measurements.csv")} == {"../in/P00/OS.png"}
    assert not list((tmp_path / "out").glob("P00_OD*"))


def test_an_image_that_fails_with_other_settings_keeps_its_result(tmp_path):
    one, other = write_archive(tmp_path / "in", 2)
    predict([one, other], tmp_path / "out")
    before = content(tmp_path / "out")
    images = find_images([one], tmp_path / "out")
    _, failures = predict_images(tiny(), images, tmp_path / "out", {one: (1000, 1)})
    assert len(failures) == 1 and content(tmp_path / "out") == before


def corrected(tmp_path: Path) -> tuple[Path, Path, bytes]:
    """An image, and its LabelMe file as a person corrected it."""
    image, _ = write_archive(tmp_path / "in", 2)
    predict([image], tmp_path / "out")
    (labelme,) = (tmp_path / "out").glob("*.json")
    labelme.write_text(labelme.read_text().replace('"NP"', '"corrected"'))
    return image, labelme, labelme.read_bytes()


def test_a_corrected_labelme_file_is_kept_if_nothing_else_has_changed(tmp_path, capsys):
    image, labelme, text = corrected(tmp_path)
    assert not predict([image], tmp_path / "out")
    assert labelme.read_bytes() == text
    assert f"{labelme}: changed since it was written; kept" in capsys.readouterr().out


def test_a_file_that_is_corrected_after_a_kill_is_kept(tmp_path):
    image, labelme, text = corrected(tmp_path)
    record = tmp_path / "out" / "results.jsonl"
    record.rename(tmp_path / "out" / "results.partial.jsonl")  # as it was at the kill
    assert not predict([image], tmp_path / "out")
    assert labelme.read_bytes() == text and record.exists()


def test_a_corrected_labelme_file_is_replaced_only_on_demand(tmp_path):
    image, labelme, text = corrected(tmp_path)
    there = content(tmp_path / "out")
    images = find_images([image], tmp_path / "out")
    with pytest.raises(UserError, match=rf"--overwrite: {labelme}: .*changed since"):
        predict_images(tiny(label="other"), images, tmp_path / "out", {})
    assert content(tmp_path / "out") == there and labelme.read_bytes() == text
    predict_images(tiny(label="other"), images, tmp_path / "out", {}, overwrite=True)
    assert '"other"' in labelme.read_text()


def test_a_file_that_is_corrected_during_the_run_is_kept(tmp_path):
    image, labelme, text = corrected(tmp_path)
    predict([image], tmp_path / "out", overwrite=True)

    def corrects(images):
        labelme.write_bytes(text)
        return darkness(images)

    images = find_images([image], tmp_path / "out")
    _, failures = predict_images(tiny(label="other", predict=corrects), images, tmp_path / "out", {})
    assert "changed since" in failures[0] and labelme.read_bytes() == text
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_files_of_a_person_with_a_name_of_ours_are_not_replaced(tmp_path):
    image, _ = write_archive(tmp_path / "in", 2)
    name = find_images([image], tmp_path / "in")[0].name
    drawn = tmp_path / "in" / f"{name}.json"
    drawn.write_text("drawn by hand")
    with pytest.raises(UserError, match="--overwrite"):
        predict([image], tmp_path / "in")
    assert drawn.read_text() == "drawn by hand" and not list((tmp_path / "in").glob("*.png"))


@pytest.mark.parametrize("table", ["measurements.csv", "area_sizes.csv", "review_order.csv"])
def test_a_table_with_notes_is_not_replaced(tmp_path, table):
    one, other = write_archive(tmp_path / "in", 2)
    predict([one], tmp_path / "out")
    file = tmp_path / "out" / table
    file.write_text(file.read_text() + "a note\n")
    before = content(tmp_path / "out")
    with pytest.raises(UserError, match=table):
        predict([other], tmp_path / "out")
    assert content(tmp_path / "out") == before
    file.rename(tmp_path / "notes.csv")
    predict([other], tmp_path / "out")
    assert len(rows_of(tmp_path / "out" / "measurements.csv")) == 2


def test_a_link_is_not_followed(tmp_path):
    image, _ = write_archive(tmp_path / "in", 2)
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"of somebody")
    output = tmp_path / "out"
    output.mkdir()
    name = find_images([image], output)[0].name
    for link in (f"{name}_mask.png", "measurements.csv", "results.lock.txt"):
        (output / link).symlink_to(outside)
    with pytest.raises(UserError, match=r"measurements\.csv: not written(.|\n)*_mask\.png: not written"):
        predict([image], output)
    predict([image], output, overwrite=True)
    assert outside.read_bytes() == b"of somebody"
    assert not any(file.is_symlink() for file in output.iterdir())
    assert_rows_show_their_images(output)
    (output / "results.partial.jsonl").symlink_to(outside)
    with pytest.raises(UserError, match="cannot be written"):
        predict([image], output, overwrite=True)
    assert outside.read_bytes() == b"of somebody"


def test_a_link_to_a_result_is_not_replaced(tmp_path):
    image, _ = write_archive(tmp_path / "in", 2)
    predict([image], tmp_path / "out")
    (mask,) = (tmp_path / "out").glob("*_mask.png")
    mask.symlink_to(mask.rename(tmp_path / "elsewhere.png"))
    with pytest.raises(UserError, match=r"_mask\.png: not written by run_prediction\.py, or changed since"):
        images = find_images([image], tmp_path / "out")
        predict_images(tiny(label="other"), images, tmp_path / "out", {})
    assert mask.is_symlink()


def test_a_second_run_into_one_folder_is_refused(tmp_path):
    image, other = write_archive(tmp_path / "in", 2)
    errors = []

    def starts_another(images):
        with pytest.raises(FolderLocked) as error:
            predict([other], tmp_path / "out")
        errors.append(str(error.value))
        return darkness(images)

    images = find_images([image], tmp_path / "out")
    predict_images(tiny(predict=starts_another), images, tmp_path / "out", {})
    assert f"{tmp_path / 'out'}: another prediction is writing into it (process {os.getpid()} on" in errors[0]
    predict([other], tmp_path / "out")
    assert_rows_show_their_images(tmp_path / "out")


def test_results_beside_their_images_are_not_predicted(tmp_path, capsys):
    write_archive(tmp_path / "in", 3)
    output = tmp_path / "in" / "P00"
    predict([tmp_path / "in"], output)
    before = content(output)
    capsys.readouterr()
    predict([tmp_path / "in"], output)
    assert f"{output}: 9 images left out: results of an earlier prediction" in capsys.readouterr().out
    assert content(output) == before and len(rows_of(output / "measurements.csv")) == 3
    next(output.glob("*.json")).unlink()
    predict([tmp_path / "in"], tmp_path / "elsewhere")
    assert len(rows_of(tmp_path / "elsewhere" / "measurements.csv")) == 3
    with pytest.raises(UserError, match="all images found are results"):
        find_images([next(output.glob("*_mask.png"))], tmp_path / "elsewhere")


def test_the_output_of_version_0_1_0_stays(tmp_path, capsys):
    images = write_archive(tmp_path / "in", 2)
    old = {f"OD{ending}": b"old" for ending in (".json", "_mask.png", "_overlay.png", "_probability.png")}
    old["measurements.csv"] = b"image,area_px,settings_sha256\r\n/in/P00/OD.png,5,x\r\n"
    for name, data in old.items():
        (images[0].parent / name).write_bytes(data)
    (images[0].parent / "other_mask.png").write_bytes(images[0].read_bytes())  # an image of the clinic
    found = find_images([tmp_path / "in"], images[0].parent)
    assert [image.file.name for image in found] == ["OD.png", "OS.png", "other_mask.png"]
    predict([tmp_path / "in"], images[0].parent)
    old["measurements_earlier.csv"] = old.pop("measurements.csv")
    after = content(images[0].parent)
    assert {name: after[name] for name in old} == old
    assert "it is now measurements_earlier.csv" in capsys.readouterr().out
    predict([tmp_path / "in"], images[0].parent)
    assert content(images[0].parent) == after


def test_a_record_that_was_changed_is_an_error(tmp_path):
    image, _ = write_archive(tmp_path / "in", 2)
    predict([image], tmp_path / "out")
    record = tmp_path / "out" / "results.jsonl"
    record.write_text(record.read_text().replace('"files"', '"names"'))
    with pytest.raises(UserError, match=r"results\.jsonl: line 2: not as run_prediction\.py wrote it"):
        predict([image], tmp_path / "out")


def test_area_sizes_are_those_of_the_mask(tmp_path):
    (image,) = write_archive(tmp_path / "in", 1)
    predict([image], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out" / "measurements.csv")
    with (tmp_path / "out" / "area_sizes.csv").open(encoding="utf-8-sig", newline="") as stream:
        sizes = [int(area["area_px"]) for area in csv.DictReader(stream)]
    mask = np.asarray(Image.open(tmp_path / "out" / row["mask_file"]))
    assert sum(sizes) == np.count_nonzero(mask) and len(sizes) == int(row["number_of_areas"]) > 1
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == int(row["largest_area_px"])
    assert "area_sizes_px" not in row
