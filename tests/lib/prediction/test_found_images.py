import time

import numpy as np
import pytest

from lib.prediction.found_images import find_images
from lib.runtime.errors import UserError
from tests.lib.images.test_reading import write_dicom


def test_images_are_found_once_and_their_results_have_different_names(tmp_path):
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


def test_a_numbered_name_that_exists_is_skipped(tmp_path):
    for name in ("a/1.png", "b/1.png", "c/1_2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    found = find_images(sorted(tmp_path.iterdir()), tmp_path / "out")
    assert len({f.name for f in found}) == 3


def test_all_missing_paths_and_empty_folders_are_listed(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "no.png", tmp_path / "empty"], tmp_path / "out")
    assert "no.png: no such file" in str(caught.value) and "empty: holds no image" in str(caught.value)


def test_ten_thousand_images_of_one_name_are_numbered_quickly(tmp_path):
    for number in range(10_000):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "0001.png").touch()
    started = time.process_time()
    found = find_images([tmp_path], tmp_path / "out")
    assert len({f.name for f in found}) == 10_000
    assert time.process_time() - started < 3


def test_dicom_is_found_by_content_and_files_passed_over_are_named(tmp_path, capsys):
    write_dicom(tmp_path / "IM000001", np.ones((3, 3), np.uint8))
    for name in ("p1.png", "p2.webp", "p4.jp2", "._p1.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images([tmp_path], tmp_path / "out")
    assert [image.file.name for image in found] == ["IM000001", "p1.png", "p2.webp", "p4.jp2"]
    printed = capsys.readouterr().out
    assert "2 files passed over" in printed and "._p1.png" in printed and "notes.txt" in printed
