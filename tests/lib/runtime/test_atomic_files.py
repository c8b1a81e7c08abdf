import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.runtime.atomic_files import (
    ABANDONED_SECONDS,
    read_json,
    remove_abandoned,
    write_text,
    written_atomically,
)
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


def test_a_full_disk_leaves_the_old_file_and_no_temporary_file(tmp_path, small_files_only):
    file = tmp_path / "history.csv"
    write_text(file, "old")
    with small_files_only(1000), pytest.raises(UserError) as error:
        write_text(file, "new" * 1000)
    assert str(error.value).startswith(f"{file}: cannot be written: File too large; is the disk full")
    assert [f.name for f in tmp_path.iterdir()] == ["history.csv"] and file.read_text() == "old"


def test_if_one_of_several_files_cannot_be_written_all_stay_unchanged(tmp_path, small_files_only):
    one, other = tmp_path / "one", tmp_path / "other"
    write_text(one, "old")
    with (
        small_files_only(1000),
        pytest.raises(UserError, match="one and the files written with it: cannot be written"),
        written_atomically(one, other) as (first, second),
    ):
        first.write_text("new")
        second.write_text("new" * 1000)
    assert [f.name for f in tmp_path.iterdir()] == ["one"] and one.read_text() == "old"


def test_an_error_names_the_file_of_the_user_although_its_name_is_a_temporary_one(tmp_path, small_files_only):
    with written_atomically(tmp_path / "last.h5") as (temporary,):
        with small_files_only(1000), pytest.raises(UserError) as error:
            write_text(temporary, "new" * 1000)
        assert str(error.value).startswith(f"{tmp_path / 'last.h5'}: cannot be written: File too large")
        temporary.touch()


def test_if_one_of_several_files_cannot_be_renamed_all_are_as_before(tmp_path):
    one, absent, folder = (tmp_path / name for name in ("one", "absent", "folder"))
    write_text(one, "old")
    folder.mkdir()
    with pytest.raises(UserError, match="Is a directory"), written_atomically(one, absent, folder) as beside:
        for temporary in beside:
            temporary.write_text("new")
    assert {f.name for f in tmp_path.iterdir()} == {"one", "folder"} and one.read_text() == "old"


def test_a_read_only_folder_is_an_error_of_one_line(tmp_path):
    code = "import sys; from pathlib import Path; from lib.runtime.command_line import run_script;"
    code += "from lib.runtime.atomic_files import write_text; run_script(lambda: write_text(Path(sys.argv[1]), 'x'))"
    command = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    if os.geteuid() == 0:  # root can write everywhere, unless this right is removed
        if not shutil.which("setpriv"):
            pytest.skip("root, and no setpriv")
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    tmp_path.chmod(0o555)
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    tmp_path.chmod(0o755)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'a.txt'}: cannot be written: Permission denied")


def left_over(folder, name="test.hdf5"):
    """The temporary file of a process that was killed while it wrote."""
    code = (
        "import os, sys; from pathlib import Path; from lib.runtime.atomic_files import written_atomically\n"
    )
    code += "with written_atomically(Path(sys.argv[1])) as (file,):\n file.write_text('image'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(folder / name)], cwd=PROJECT)
    (found,) = folder.glob(".*")
    return found


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    left_over(tmp_path)
    (tmp_path / ".999999999-test.hdf5").touch()  # of an earlier version
    (tmp_path / ".2024-notes.txt").touch()  # of a person
    remove_abandoned(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == [".2024-notes.txt", ".999999999-test.hdf5"]
    remove_abandoned(tmp_path, ["test.hdf5"])
    assert [file.name for file in tmp_path.iterdir()] == [".2024-notes.txt"]
    remove_abandoned(tmp_path / "missing")


def test_temporary_files_of_living_processes_stay(tmp_path):
    with written_atomically(tmp_path / "a.png") as (temporary,):
        temporary.touch()
        os.utime(temporary, (0, 0))  # the clocks of a network disk and of this machine may differ
        remove_abandoned(tmp_path)
        assert temporary.is_file()


def test_temporary_files_of_other_machines_are_removed_when_they_are_old(tmp_path):
    """There, another process may have the number of one that has ended here."""
    file = left_over(tmp_path)
    process, machine, rest = file.name.split("-", 2)
    other = file.rename(file.with_name(f"{process}-{'0' * 8}-{rest}"))
    assert machine != "0" * 8
    (tmp_path / ".hidden").touch()
    (tmp_path / "123-a").touch()
    remove_abandoned(tmp_path)
    assert other.is_file()
    hours_ago = time.time() - ABANDONED_SECONDS - 60
    for one in tmp_path.iterdir():
        os.utime(one, (hours_ago, hours_ago))
    remove_abandoned(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".hidden", "123-a"]


def test_two_processes_of_the_same_number_have_different_temporary_files(tmp_path):
    with written_atomically(tmp_path / "a") as (first,), written_atomically(tmp_path / "a") as (second,):
        first.touch()
        second.touch()
        assert first != second
        assert first.name.split("-")[:2] == second.name.split("-")[:2]


def test_all_content_is_flushed_to_disk_before_the_first_file_is_renamed(tmp_path, monkeypatch):
    one, other, flushed = tmp_path / "one", tmp_path / "other", []
    write_text(one, "old")
    write_text(other, "old")
    fsync = os.fsync

    def recorded(descriptor):
        fsync(descriptor)
        content = Path(f"/proc/self/fd/{descriptor}").readlink().read_text()
        flushed.append((content, one.read_text(), other.read_text()))

    monkeypatch.setattr(os, "fsync", recorded)
    with written_atomically(one, other) as (first, second):
        first.write_text("new one")
        second.write_text("new other")
    assert flushed == [("new one", "old", "old"), ("new other", "old", "old")]
    assert (one.read_text(), other.read_text()) == ("new one", "new other")


@pytest.mark.parametrize("content", [b"", b'{"a": [1', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_json_file_is_an_error_of_one_line(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: .*; do this$") as error:
        read_json(file, "do this")
    assert "\n" not in str(error.value)


def test_a_json_file_is_read_and_a_missing_one_named(tmp_path):
    write_text(tmp_path / "a.json", '{"眼": 1}')
    assert read_json(tmp_path / "a.json", "") == {"眼": 1}
    with pytest.raises(UserError, match=r"b\.json: cannot be read \(No such file.*\); do this"):
        read_json(tmp_path / "b.json", "do this")
