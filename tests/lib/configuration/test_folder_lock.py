import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys

import pytest

from lib.configuration.experiment_folder import Experiment
from lib.configuration.folder_lock import FolderLocked, training_lock
from lib.runtime.paths import PROJECT

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from lib.configuration.experiment_folder import Experiment
from lib.configuration.folder_lock import training_lock
with training_lock(Experiment(Path(sys.argv[1]), "a")):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_error_names_the_process_and_a_killed_process_holds_no_lock(tmp_path):
    experiment = Experiment(tmp_path, "a")
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(FolderLocked) as error, training_lock(experiment):
            pass
        other.send_signal(signal.SIGKILL)
    assert f"running in it (process {other.pid} on {platform.node()}); wait" in str(error.value)
    with training_lock(experiment):
        assert f"process {os.getpid()} on" in (tmp_path / "training.lock.txt").read_text()
    with training_lock(experiment):  # the end of the context releases it too
        pass


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with training_lock(Experiment(tmp_path, "a")):
        pass
    assert "this file system has no locks (No locks available)" in capsys.readouterr().out


def test_a_lock_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "training.lock").mkdir()
    with pytest.raises(OSError, match="directory"), training_lock(Experiment(tmp_path, "a")):
        pass
