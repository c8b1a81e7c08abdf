"""Training throughput against `model.fit` on the same patches held in memory, and peak memory.

Run `python prepare_datasets_FFA.py --config configurations/demo.txt --synthetic 16` first (make demo does).

    python -m benchmarks.training_throughput
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from lib.command_line import PROJECT
from lib.configuration import read_configuration
from lib.files import write_text
from lib.keras_backend import start_keras

DEMO = PROJECT / "configurations" / "demo.txt"
RESULT = PROJECT / "docs" / "results" / "training_throughput"
REPEATS = 5
PATCHES = 3200
NETWORKS = {"enhance_laddernet": "16 32 64 128", "unet": "16 32 64 128"}


def throughput(architecture: str, filters: str) -> dict[str, float]:
    import numpy as np

    from lib import training
    from lib.experiment import build_model

    settings = [f"model.architecture={architecture}", f"model.filters={filters}"]
    settings.append(f"training settings.N_subimgs={PATCHES}")
    configuration = read_configuration(DEMO, settings)
    images = training._read_images(configuration, "train")
    sampler = training._sampler(configuration, images, truth_centred_share=0)
    model = build_model(configuration)
    model = training._learner(model, configuration.training_settings)
    patches = training._epoch_patches(configuration, images, sampler, 0)
    x, y = (
        np.concatenate(arrays)
        for arrays in zip(*(patches[i] for i in range(len(patches))), strict=True)
    )
    size = configuration.training_settings.batch_size
    bar = training._ProgressBar(configuration.training_settings, 0)

    def ours() -> None:
        model.fit(patches, shuffle=False, verbose=0, callbacks=[bar])

    def in_memory() -> None:
        model.fit(x, y, batch_size=size, shuffle=False, verbose=0)

    rates: dict[str, list[float]] = {"ours": [], "in memory": []}
    ours(), in_memory()  # traces
    for _ in range(REPEATS):
        for name, fit in (("ours", ours), ("in memory", in_memory)):
            started = time.perf_counter()
            fit()
            rates[name].append(PATCHES / (time.perf_counter() - started))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return medians | {"ratio": medians["ours"] / medians["in memory"]}


def peak_memory(number: int) -> float:
    """MiB that run_training.py takes at most with `number` patches an epoch."""
    settings = ["model.architecture=unet", "model.filters=4 8", "training settings.N_epochs=1"]
    settings += [f"training settings.N_subimgs={number}", f"experiment name.name=memory_{number}"]
    command = [sys.executable, str(PROJECT / "run_training.py"), "--config", str(DEMO), "--fresh"]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"run_training.py ended with {status}")
    return usage.ru_maxrss / 1024


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    memory = {number: peak_memory(number) for number in (2000, 20000, 60000)}
    start_keras()
    import keras

    rates = {name: throughput(name, filters) for name, filters in NETWORKS.items()}
    about = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
    result = {"about": about, "patches per second": rates, "peak memory in MiB": memory}
    write_text(RESULT.with_suffix(".json"), json.dumps(result, indent=2) + "\n")
    lines = [
        "# Training throughput and memory",
        "",
        f"`python -m benchmarks.training_throughput`; {about['machine']}, {about['date']},",
        f"keras {about['keras']} on {about['backend']}. Patches of 48x48, batch 32,",
        f"{PATCHES} patches a run, median of {REPEATS} alternating runs.",
        "",
        "| network, filters | cut while training, patches/s | `model.fit` in memory, patches/s | ratio |",
        "|---|---|---|---|",
        *(
            f"| `{name}`, {NETWORKS[name]} | {r['ours']:.0f} | {r['in memory']:.0f} | {r['ratio']:.3f} |"
            for name, r in rates.items()
        ),
        "",
        "| N_subimgs | peak memory of run_training.py, MiB |",
        "|---|---|",
        *(f"| {number} | {peak:.0f} |" for number, peak in memory.items()),
        "",
    ]
    write_text(RESULT.with_suffix(".md"), "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
