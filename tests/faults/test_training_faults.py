"""Trainings that are killed or run out of disk space: messages, and files that are left."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.random_kills import run
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.training.patch_sampler import PatchSampler
from lib.training.train import train
from lib.training.training_patches import training_images
from tests.conftest import tiny_configuration, tiny_settings
from tests.lib.training.test_train import assert_same_weights, history

pytestmark = pytest.mark.faults


def command(prepared, *settings: str) -> list[str]:
    script = [sys.executable, str(PROJECT / "run_training.py")]
    script += ["--config", str(PROJECT / "configurations" / "demo.txt")]
    return script + [part for s in [*tiny_settings(prepared), *settings] for part in ("--set", s)]


def unfinished(folder) -> list:
    return [file.name for file in folder.iterdir() if file.name.startswith(".")]


def test_after_three_random_kills_a_training_gives_the_same_result(tmp_path):
    found = run(tmp_path, kills=3, seed=int(time.time()))
    assert found["same"] == 3 and found["left half-written"] == 0, found


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_training_at_once_and_its_lock_holds_until_then(prepared, sent, code):
    settings = [f"experiment name.name=ended_{code}", "training settings.patience=1000"]
    long = command(prepared, *settings, "training settings.N_epochs=1000")
    folder = prepared / "experiments" / f"ended_{code}"
    with subprocess.Popen(
        long,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        while not (folder / "history.csv").exists():
            assert process.poll() is None
            time.sleep(0.05)
        with pytest.raises(UserError, match=f"another training is running in it .process {process.pid} "):
            train(tiny_configuration(prepared, *settings))
        started = time.monotonic()
        process.send_signal(sent)
        output, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 20  # a step takes milliseconds; the machine may be busy
    assert process.returncode == code
    assert "run the same command again to continue after the last complete epoch" in output
    assert errors.strip() == f"stopped by {'SIGTERM' if code == 143 else 'Ctrl-C'}"
    assert not unfinished(folder)
    done = history(folder)
    more = f"training settings.N_epochs={len(done) + 1}"
    train(tiny_configuration(prepared, *settings, more, "training settings.patience=1000"))
    assert history(folder)[:-1] == done


def test_a_read_only_folder_is_one_line_and_does_not_change(prepared):
    unprivileged = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    if unprivileged and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere, and setpriv, which can prevent that, is missing")
    settings = ["experiment name.name=sealed", "training settings.N_epochs=1"]
    folder = train(tiny_configuration(prepared, *settings)).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = subprocess.run(
        [*unprivileged, *command(prepared, *settings, "training settings.N_epochs=2")],
        capture_output=True,
        text=True,
    )
    folder.chmod(0o755)
    assert done.returncode == 2 and "Permission denied" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and str(folder) in done.stderr
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_loss_that_is_not_finite_ends_the_epoch_and_the_error_names_step_and_images(prepared):
    settings = ["experiment name.name=poisoned", "training settings.batch_size=1"]
    configuration = tiny_configuration(prepared, *settings, "training settings.N_epochs=1")
    experiment = train(configuration)
    before = {file: file.read_bytes() for file in experiment.folder.glob("*.weights.h5")}
    rows = history(experiment.folder)
    with np.load(experiment.checkpoint) as content:
        arrays = dict(content)
    for array in arrays.values():
        if array.dtype == np.float32:
            array[...] = np.nan
    np.savez(experiment.checkpoint, **arrays)
    images = training_images(configuration)["train"]
    first = PatchSampler(images, 32, 32).draw(48, np.random.default_rng([2025, 0, 1])).image[0]
    with pytest.raises(
        UserError, match=f"epoch 2, step 1 of 48: loss nan on patches of {images[first].name}: the tr"
    ):
        train(tiny_configuration(prepared, *settings))
    assert {file: file.read_bytes() for file in before} == before and len(before) == 2
    assert history(experiment.folder) == rows


@pytest.mark.parametrize("limit", [120_000, 220_000])  # too small for a weight file; for a checkpoint
def test_a_full_disk_is_one_line_and_leaves_the_files_of_the_last_epoch(prepared, limit, small_files_only):
    settings = [f"experiment name.name=full_{limit}", "model.filters=16 32"]
    experiment = train(tiny_configuration(prepared, *settings, "training settings.N_epochs=1"))
    kept = [experiment.checkpoint, experiment.folder / "history.csv"]
    kept += [experiment.folder / "learning_curves.png", *map(experiment.weights, ("best", "last"))]
    before = [file.read_bytes() for file in kept]
    assert len(before[-1]) < 220_000 < len(before[0])
    with (
        small_files_only(limit),
        pytest.raises(UserError, match=r"cannot be written: File too large; is the disk full") as error,
    ):
        train(tiny_configuration(prepared, *settings))
    assert "\n" not in str(error.value)
    assert [file.read_bytes() for file in kept] == before
    assert not list(experiment.folder.glob(".*"))
    assert len(history(train(tiny_configuration(prepared, *settings)).folder)) == 3


def test_after_a_damaged_checkpoint_a_training_gives_the_same_result(prepared, capsys):
    whole = train(tiny_configuration(prepared, "experiment name.name=undamaged", "model.dropout=0.3"))
    settings = ["experiment name.name=damaged", "model.dropout=0.3"]
    damaged = train(tiny_configuration(prepared, *settings, "training settings.N_epochs=2"))
    content = damaged.checkpoint.read_bytes()
    damaged.checkpoint.write_bytes(content[: len(content) // 2])
    (damaged.folder / ".999-damaged_best.weights.h5").touch()  # a temporary file of a killed training
    train(tiny_configuration(prepared, *settings))
    assert not unfinished(damaged.folder)
    output = capsys.readouterr().out
    assert "damaged_checkpoint.npz: damaged or missing (" in output
    assert "continuing after epoch 1;" in output
    assert history(damaged.folder) == history(whole.folder)
    assert_same_weights(damaged, whole)
