import os
import shutil
import subprocess
import sys

import pytest

from lib.runtime.atomic_files import write_text, written_atomically
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
