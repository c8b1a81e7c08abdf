import errno
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from lib.prediction.found_images import find_images
from lib.runtime.errors import UserError
from tests.lib.images.test_reading import write_dicom


def test_images_are_found_once_and_their_results_have_different_names(tmp_path):
    for name in ("a/1.png", "b/1.png", "b/deep/2.PNG", "b/.1.png", "b/readme.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    given = [tmp_path / "a" / "1.png", tmp_path / "b", tmp_path / "a" / "1.png"]
    found = find_images(given, tmp_path / "b" / "out")
    assert [f.file.relative_to(tmp_path).as_posix() for f in found] == ["a/1.png", "b/1.png", "b/deep/2.PNG"]
    assert [f.path for f in found] == ["../../a/1.png", "../1.png", "../deep/2.PNG"]
    assert len({f.name for f in found}) == 3


def test_deleted_images_snapshots_and_thumbnails_are_not_searched(tmp_path, capsys):
    folders = (".Trash-1000/files", "$RECYCLE.BIN", ".snapshot/daily.0", "P1/@eaDir/OD.png", "#recycle")
    for folder in (*folders, "P1", "#12 Meier"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "OS.png").write_bytes(b"x")
    found = find_images([tmp_path], tmp_path / "out")
    assert {image.file.parent.name for image in found} == {"P1", "#12 Meier"}
    (hidden,) = find_images([tmp_path / ".snapshot" / "daily.0"], tmp_path / "out")  # given by the user
    assert hidden.file.parent.name == "daily.0"
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("a hidden folder or one of the system, not searched") for line in lines) == 5


def test_a_name_follows_from_the_path_alone(tmp_path):
    """However the image is named, and whatever other images there are."""
    (tmp_path / "P01" / "deep").mkdir(parents=True)
    for name in ("P01/OD.png", "P01/OD.tif", "P01/deep/OD.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "P01")
    output = tmp_path / "out"
    (alone,) = find_images([tmp_path / "P01" / "deep" / ".." / "OD.png"], output)
    (linked,) = find_images([tmp_path / "link" / "OD.png"], output)
    digits = hashlib.sha256(b"../P01/OD.png").hexdigest()[:12]
    assert alone.name == linked.name == f"P01_OD-{digits}"
    together = find_images([tmp_path / "link", tmp_path / "P01"], output)
    assert sorted(i.path for i in together) == ["../P01/OD.png", "../P01/OD.tif", "../P01/deep/OD.png"]
    assert alone.name in {i.name for i in together} and len({i.name for i in together}) == 3


@pytest.mark.parametrize("name", ["=1+1.png", "-x.png", "@x.png", "+1.png", "\t=1.png", "＝1.png"])
def test_no_spreadsheet_executes_the_path(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (image,) = find_images([tmp_path], tmp_path)
    assert image.text == f"./{name}" and (tmp_path / image.text).samefile(image.file)
    assert image.name[0] not in "=+-@\t＝"


def test_all_missing_paths_and_empty_folders_are_listed(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "no.png", tmp_path / "empty"], tmp_path / "out")
    assert "no.png: no such file" in str(caught.value) and "empty: holds no image" in str(caught.value)


def test_folders_that_are_not_searched_are_named(tmp_path, capsys, monkeypatch):
    archive, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    for folder in (archive / "P1", archive / "P2", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (archive / "P3").symlink_to(elsewhere)
    assert len(find_images([archive], tmp_path / "out")) == 2
    assert f"{archive / 'P3'}: a link to a folder, which is not followed" in capsys.readouterr().out
    scandir = os.scandir

    def refusing(folder):  # as for another user; root may read all folders
        if Path(folder).name == "P2":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"P2: cannot be read \(Permission denied\)"):
        find_images([archive], tmp_path / "out")


def test_a_path_with_blanks_that_lacks_its_quotes_is_named(tmp_path):
    (tmp_path / "patient 7 left.png").touch()
    parts = [tmp_path / "patient", Path("7"), Path("left.png")]
    with pytest.raises(UserError) as caught:
        find_images([*parts, tmp_path / "other.png"], tmp_path / "out")
    message, hint = str(caught.value), f"; a path with blanks needs quotes: '{tmp_path}/patient 7 left.png'"
    assert message.count(hint) == 3 and "other.png: no such file or folder;" not in message


def test_an_output_that_is_a_file_is_named(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"--output .*a\.png: is a file; expected a folder"):
        find_images([tmp_path], tmp_path / "a.png")


def test_results_that_were_copied_without_their_record_are_left_out(tmp_path, capsys):
    for name in ("a.png", "P1_OD-25051847c72d_mask.png", "P1_OD-25051847c72d_seg.dcm", "b-1_mask.png"):
        (tmp_path / name).touch()
    found = find_images([tmp_path], tmp_path / "out")
    assert [image.file.name for image in found] == ["a.png", "b-1_mask.png"]
    assert "images left out: results of an earlier prediction" in capsys.readouterr().out


def test_the_time_of_the_search_grows_with_the_images_not_with_their_square(tmp_path):
    def seconds(images):
        """CPU time of a search among images of one name."""
        folder = tmp_path / f"{images}_images"
        for number in range(images):
            (folder / str(number)).mkdir(parents=True)
            (folder / str(number) / "0001.png").touch()
        started = time.process_time()
        found = find_images([folder], tmp_path / "out")
        assert len({f.name for f in found}) == images
        return time.process_time() - started

    few = seconds(1_000)
    assert seconds(8_000) < 20 * few  # in proportion: 8; with the square: 64


def test_dicom_is_found_by_content_and_files_passed_over_are_named(tmp_path, capsys):
    write_dicom(tmp_path / "IM000001", np.ones((3, 3), np.uint8))
    for name in ("p1.png", "p2.webp", "p4.jp2", "._p1.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images([tmp_path], tmp_path / "out")
    assert [image.file.name for image in found] == ["IM000001", "p1.png", "p2.webp", "p4.jp2"]
    printed = capsys.readouterr().out
    assert "2 files passed over" in printed and "._p1.png" in printed and "notes.txt" in printed


def test_a_results_jsonl_of_another_program_does_not_matter(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "results.jsonl").write_text('{"accuracy": 0.9}\n')
    assert [image.file.name for image in find_images([tmp_path], tmp_path / "out")] == ["a.png"]
