"""Kills trainings by SIGKILL at random moments, continues them, and compares with an uninterrupted training.

    python -m benchmarks.random_kills [--kills 100] [--seed 0]

Each is a training of six epochs of a tiny network with dropout, which spends much of its time in writing
files. The benchmark compares history.csv (without the column of seconds) and all weights bit by bit, and
counts temporary files that are left. Writes docs/results/random_kills.json.
"""

import argparse
import csv
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from lib.configuration.reading import read_configuration
from lib.runtime.atomic_files import write_text
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

BASE = PROJECT / "configurations" / "demo.txt"
RESULT = PROJECT / "docs" / "results" / "random_kills.json"


def settings(folder: Path, name: str) -> list[str]:
    return [
        f"data paths.path_images={folder / 'angiograms'}",
        f"data paths.path_local={folder / 'datasets'}",
        f"experiment name.path_experiments={folder / 'experiments'}",
        f"experiment name.name={name}",
        "data attributes.patch_height=32",
        "data attributes.patch_width=32",
        "model.architecture=unet",
        "model.filters=4 8",
        "model.dropout=0.3",
        "training settings.N_epochs=6",
        "training settings.N_subimgs=48",
        "training settings.N_subimgs_validation=60",
        "training settings.batch_size=16",
    ]


def start(folder: Path, name: str) -> subprocess.Popen:
    """Start a training in a new process and wait until it locks the folder of the experiment."""
    command = [sys.executable, str(PROJECT / "run_training.py"), "--config", str(BASE)]
    command += [part for setting in settings(folder, name) for part in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    lock = folder / "experiments" / name / "training.lock"
    while not lock.exists() and process.poll() is None:
        time.sleep(0.005)
    return process


def outcome(experiment: Path) -> dict[str, np.ndarray | list]:
    """Read history and weights, which must not depend on interruptions."""
    with (experiment / "history.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    found: dict[str, np.ndarray | list] = {"history": rows}
    for weights in sorted(experiment.glob("*.weights.h5")):
        which = weights.name.rpartition("_")[2]
        with h5py.File(weights) as store:
            store.visititems(
                lambda path, item, which=which: (
                    found.update({f"{which}/{path}": item[...]}) if isinstance(item, h5py.Dataset) else None
                )
            )
    return found


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def epochs_done(experiment: Path) -> int:
    history = experiment / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def killed(folder: Path, name: str, longest: float, moments: random.Random) -> Path:
    """Kill a training after at most `longest` seconds; repeat until one is killed before its end."""
    experiment = folder / "experiments" / name
    while True:
        shutil.rmtree(experiment, ignore_errors=True)
        process = start(folder, name)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return experiment


def run(folder: Path, kills: int, seed: int) -> dict:
    """Prepare images, train once without interruption, then once for each kill."""
    start_keras()
    import keras

    from lib.datasets.ffa import prepare
    from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
    from lib.training.train import train

    write_synthetic_angiograms(folder / "angiograms", 8, seed=1, size=128)
    prepare(read_configuration(BASE, settings(folder, "whole")))
    whole = start(folder, "whole")
    started = time.monotonic()
    if whole.wait():
        raise SystemExit(f"the uninterrupted training ended with {whole.returncode}")
    longest = time.monotonic() - started
    expected = outcome(folder / "experiments" / "whole")
    moments = random.Random(seed)
    result = {"kills": kills, "same": 0, "while writing": 0, "left half-written": 0}
    after: Counter[int] = Counter()
    for number in range(1, kills + 1):
        experiment = killed(folder, "killed", longest, moments)
        after[epochs_done(experiment)] += 1
        result["while writing"] += any(experiment.glob(".[0-9]*-*"))
        keras.backend.clear_session()
        train(read_configuration(BASE, settings(folder, "killed")))
        result["same"] += same(outcome(experiment), expected)
        result["left half-written"] += any(experiment.glob(".[0-9]*-*"))
        print(f"{number} killed, {result['same']} the same", flush=True)
    return result | {"killed after epochs": dict(sorted(after.items()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), arguments.kills, arguments.seed)
    write_text(RESULT, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
