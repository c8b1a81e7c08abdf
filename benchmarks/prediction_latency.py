"""How long a doctor waits: from an angiogram's file to its outlines, with full-width networks.

    python -m benchmarks.prediction_latency [--repeats 5]

Builds each network at its paper's width with fresh weights (time does not depend on them), exports it, and
reads, predicts, measures and outlines a synthetic angiogram of 768x768 with onnxruntime and with Keras on
TensorFlow, in turn. Writes docs/results/prediction_latency.{json,md}.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

from lib.command_line import DEFAULT_CONFIGURATION, PROJECT
from lib.configuration import read_configuration
from lib.keras_backend import start_keras

NETWORKS = {"enhance_laddernet": "64 128 256 512", "ldpc_net": "64 128 256"}
WINDOWS = ("tiles", "whole")
SIZE = 768


def exported(architecture: str, filters: str, folder: Path):
    """The network on Keras, and its ONNX file."""
    from lib.experiment import build_model
    from lib.onnx_export import write_onnx
    from lib.trained_network import TrainedNetwork

    settings = [f"model.architecture={architecture}", f"model.filters={filters}"]
    configuration = read_configuration(DEFAULT_CONFIGURATION, settings)
    model = build_model(configuration)
    network = TrainedNetwork(
        name=architecture,
        architecture=architecture,
        structure="CNP",
        label="NP",
        info_banner="auto",
        preprocessing=configuration.preprocessing,
        testing_settings=configuration.testing_settings,
        threshold=0.999,  # fresh weights would make a mask of noise, a thousand areas to outline
        threshold_source="benchmark",
        min_area_px=50,
        weights_sha256="",
        predict=model.predict_on_batch,
    )
    file = folder / f"{architecture}.onnx"
    write_onnx(model, network, configuration, file)
    return network, file


def seconds_to_outlines(network, image: Path, folder: Path) -> float:
    from lib.archive import FoundImage, write_results
    from lib.prediction import predict_file

    started = time.perf_counter()
    prediction = predict_file(network, image)
    write_results(network, FoundImage(image, "result"), prediction, folder)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    start_keras()
    from lib.onnx_network import read_onnx_network
    from lib.synthetic_angiograms import write_synthetic_angiograms

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic_angiograms(folder / "images", 1, seed=1, size=SIZE)
        (image,) = (folder / "images").glob("*.png")
        for architecture, filters in NETWORKS.items():
            on_keras, file = exported(architecture, filters, folder)
            engines = {"onnxruntime": read_onnx_network(file), "keras": on_keras}
            for window in WINDOWS:
                times = {engine: [] for engine in engines}
                for repeat in range(repeats + 1):
                    for engine, network in engines.items():
                        settings = dataclasses.replace(network.testing_settings, window=window)
                        network = dataclasses.replace(network, testing_settings=settings)
                        taken = seconds_to_outlines(network, image, folder)
                        if repeat:  # the first traces, and warms caches
                            times[engine].append(taken)
                row = {"network": architecture, "window": window}
                row |= {engine: statistics.median(t) for engine, t in times.items()}
                rows.append(row)
                print(row, flush=True)
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "date": date.today().isoformat(),
        "versions": {p: version(p) for p in ("keras", "tensorflow", "onnxruntime")},
    }
    report(rows, machine, repeats)


def report(rows: list[dict], machine: dict, repeats: int) -> None:
    folder = PROJECT / "docs" / "results"
    content = json.dumps({"machine": machine, "rows": rows}, indent=2)
    (folder / "prediction_latency.json").write_text(content + "\n", encoding="utf-8")
    lines = [
        "# From a file to its outlines",
        "",
        "`python -m benchmarks.prediction_latency`",
        "",
        f"{machine['cores']} cores, {machine['platform']}, {machine['versions']}, {machine['date']}.",
        f"One synthetic angiogram of {SIZE}x{SIZE}, read, predicted, measured, outlined, all files written;",
        f"seconds, medians of {repeats}, the engines in turn.",
        "",
        "| network at full width | window | onnxruntime | Keras on TensorFlow |",
        "|---|---|---|---|",
        *(
            f"| {r['network']} | {r['window']} | {r['onnxruntime']:.2f} | {r['keras']:.2f} |"
            for r in rows
        ),
    ]
    (folder / "prediction_latency.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
