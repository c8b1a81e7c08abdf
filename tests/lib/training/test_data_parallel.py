"""Trainings on two devices, which are simulated on the CPU, in separate processes."""

import csv
import importlib.util
import os
import socket
import subprocess
import sys

import pytest

from lib.runtime.paths import PROJECT

pytestmark = pytest.mark.cluster

TWO_CPUS = {
    "tensorflow": """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
""",
    "jax": "",  # XLA_FLAGS makes the two devices
}
TRAIN = """
import sys
from pathlib import Path
from lib.runtime.keras_startup import start_keras
start_keras()
from lib.training.train import train
from lib.runtime.errors import UserError
from tests.conftest import tiny_configuration
for run in sys.argv[2:]:
    try:
        train(tiny_configuration(Path(sys.argv[1]), *run.split(";")))
    except UserError as error:
        print("refused:", error)
"""


def start(backend: str, folder, *runs: str, **environment: str) -> subprocess.Popen:
    """Train `runs`, each some settings joined by ";", one after the other."""
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    flags = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return subprocess.Popen(
        [sys.executable, "-c", TWO_CPUS[backend] + TRAIN, str(folder), *runs],
        cwd=PROJECT,
        env={**os.environ, **flags, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out


def run(name: str, devices: object, *more: str) -> str:
    settings = [f"experiment name.name={name}", f"training settings.devices={devices}"]
    # No dropout and no batch normalisation: with TensorFlow each device has its own. SGD, because Adam
    # gives the same result if gradients are added instead of averaged.
    settings += ["model.dropout=0", "training settings.optimizer=sgd"]
    return ";".join([*settings, "training settings.learning_rate=0.1", *more])


def history(folder, name: str) -> list[dict[str, float]]:
    with (folder / "experiments" / name / "history.csv").open() as table:
        rows = list(csv.DictReader(table))
    return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in rows]


def assert_almost_equal(rows, expected) -> None:
    assert len(rows) == len(expected) == 3
    for row, wanted in zip(rows, expected, strict=True):
        # Sums over half batches differ by rounding, 6e-8; after nine steps the difference is larger.
        assert row == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_training_on_two_devices_agrees_with_one_device_and_can_be_resumed(backend, prepared):
    one, two, cut = (f"{backend}_{name}" for name in ("one", "two", "cut"))
    first_epoch = "training settings.N_epochs=1"
    odd = run("odd", 2, "training settings.batch_size=15")
    runs = [run(one, 1), run(two, 2), run(cut, 2, first_epoch), run(cut, "all")]
    said = output(start(backend, prepared, *runs, odd, run("many", 3)))
    assert_almost_equal(history(prepared, two), history(prepared, one))
    assert history(prepared, cut) == history(prepared, two)
    assert "devices = 2: expected batch_size = 15 to be a multiple of 2" in said
    assert "devices = 3: there are 2 (cpu:0, cpu:1)" in said


def test_a_training_in_two_processes_agrees_with_one_device(prepared):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    one = start("jax", prepared, run("alone", 1), XLA_FLAGS="")
    hosts = [
        start(
            "jax",
            prepared,
            run("hosts", "all"),
            XLA_FLAGS="",
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]
    for process in [one, *hosts]:
        output(process)
    assert_almost_equal(history(prepared, "hosts"), history(prepared, "alone"))
