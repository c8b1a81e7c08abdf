"""Training steps and predictions of our networks by TensorFlow on a CPU, with and without oneDNN.

    python -m benchmarks.onednn

TensorFlow reads TF_ENABLE_ONEDNN_OPTS once, when it starts. So each measurement is a process of its own, in
turn with and without oneDNN.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.measuring import benchmark_parser, in_turn, machine, write_report
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

STEPS = 6


@dataclass(frozen=True)
class Case:
    """A network, and the batches with which its configuration trains it."""

    network: str
    filters: tuple[int, ...]
    batch: int
    side: int
    channels: int = 1

    @property
    def name(self) -> str:
        return f"`{self.network}`, {' '.join(map(str, self.filters))}"


CASES = (
    Case("enhance_laddernet", (16, 32, 64, 128), 32, 48),
    Case("laddernet", (10, 20, 40, 80), 32, 48),
    Case("retina_unet", (32, 64, 128), 32, 48),
    Case("ldpc_net", (16, 32, 64), 16, 64),
    Case("unet", (16, 32, 64, 128), 8, 128, 3),
    Case("efficientnet_unet", (16, 32, 64, 96, 128), 8, 192),
    Case("w_net", (8, 16, 32), 4, 288, 3),
)


def seconds(case: Case) -> dict[str, float]:
    """Median seconds of a training step, and of the prediction of an image of DRIVE's size."""
    import keras

    import models

    shared = {"dropout": 0.1, "reduction_ratio": 8, "batch_normalisation": True}
    model = models.build(case.network, filters=case.filters, channels=case.channels, **shared)
    model.compile(optimizer=keras.optimizers.Adam(), loss="binary_crossentropy", jit_compile=False)
    random = np.random.default_rng(0)
    x = random.random((case.batch, case.side, case.side, case.channels), np.float32)
    y = (random.random((case.batch, case.side, case.side, 1)) > 0.9).astype(np.float32)
    image = random.random((1, 584, 565, case.channels), np.float32)
    runs = {
        "training": lambda: model.train_on_batch(x, y),
        "prediction": lambda: model.predict_on_batch(image),
    }
    in_turn(runs, 2)  # the first calls compile
    return {name: statistics.median(in_turn({name: run}, STEPS)[name]) for name, run in runs.items()}


def measure() -> None:
    """Print the seconds of all cases as JSON."""
    start_keras()
    print("\n" + json.dumps([seconds(case) for case in CASES]))


def in_own_process(onednn: bool) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.onednn", "--measure"]
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn))}
    printed = subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(printed.splitlines()[-1])


def compare(repeats: int) -> dict[str, dict]:
    """Milliseconds without and with oneDNN, and their ratio, by network and kind of work."""
    runs = [(in_own_process(False), in_own_process(True)) for _ in range(repeats)]
    result: dict[str, dict] = {case.name: {} for case in CASES}
    for number, case in enumerate(CASES):
        for work in runs[0][0][number]:
            without, using = (1000 * statistics.median(run[n][number][work] for run in runs) for n in (0, 1))
            result[case.name][work] = {"without": without, "with": using, "ratio": without / using}
    return result


def main() -> None:
    parser = benchmark_parser(__doc__.splitlines()[0], repeats=3)
    parser.add_argument("--measure", action="store_true", help="one process of the benchmark")
    arguments = parser.parse_args()
    if arguments.measure:
        measure()
        return
    result = compare(arguments.repeats)
    lines = ["ms; medians of the processes. Ratio: without oneDNN / with oneDNN. Image: 565 x 584.", ""]
    lines += ["| network | batch | step, without | with | ratio | image, without | with | ratio |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for case in CASES:
        works = result[case.name].values()
        cells = [f"{one['without']:.0f} | {one['with']:.0f} | **{one['ratio']:.2f}**" for one in works]
        lines.append(f"| {case.name} | {case.batch} x {case.side} x {case.side} | {' | '.join(cells)} |")
    about = machine("keras", "tensorflow")
    write_report(arguments.results / "onednn", "oneDNN in TensorFlow on a CPU", about, lines, result)


if __name__ == "__main__":
    main()
