"""Our prediction of an image in overlapping patches, compared with `model.predict` on the same patches.

    python -m benchmarks.overlap_prediction [--stride 5]

retina-unet with random weights on a synthetic angiogram of the size of DRIVE images. Ours includes all steps
from the preprocessed image to the mean of all patches; `model.predict` gets patches that are already cut.
"""

import dataclasses
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, medians, peak_memory, write_report
from benchmarks.prediction_latency import engines, on_keras
from benchmarks.published_network import CONFIGURATION
from lib.configuration.reading import read_configuration
from lib.runtime.keras_startup import start_keras

ROWS, COLUMNS = 584, 565
PATCH = (48, 48)
STAGES = ("reading", "field of view", "preprocessing", "cutting and putting together", "metrics")
AT_LEAST = {"Keras": 1.15, "OpenVINO": 1.15, "Keras, bfloat16": 2, "OpenVINO, bfloat16": 2}
NETWORK = "retina_unet", "32 64 128"


def patches_of(levels: np.ndarray, stride: int) -> np.ndarray:
    from lib.images.preprocessing import network_input
    from lib.prediction.sliding_window import SlidingWindow

    windows = SlidingWindow(levels.shape[:2], PATCH, (stride, stride))
    return network_input(windows.extract(levels))


def other_stages(file: Path, truth: np.ndarray, configuration, settings) -> dict[str, float]:
    """Seconds of each step of an image, without its prediction."""
    from lib.evaluation.pixel_scores import score_pixels
    from lib.images.field_of_view import detect_field_of_view
    from lib.images.preprocessing import preprocess
    from lib.images.reading import read_image
    from lib.prediction.sliding_window import predict_image

    times = [time.perf_counter()]
    image = read_image(file)
    times.append(time.perf_counter())
    field_of_view = detect_field_of_view(image)
    times.append(time.perf_counter())
    levels = preprocess(image, field_of_view, configuration.preprocessing)
    times.append(time.perf_counter())
    mean = predict_image(lambda windows: windows, levels, settings)
    times.append(time.perf_counter())
    inside = field_of_view > 0
    score_pixels(mean[inside], truth[inside], 0.5)
    times.append(time.perf_counter())
    return dict(zip(STAGES, np.diff(times).tolist(), strict=True))


def main() -> None:
    parser = benchmark_parser(__doc__, repeats=3)
    parser.add_argument("--stride", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    stride, batch = arguments.stride, arguments.batch
    start_keras()
    from lib.datasets.synthetic_angiograms import synthetic_angiogram
    from lib.images.png import write_png
    from lib.prediction.sliding_window import predict_image

    configuration = read_configuration(CONFIGURATION)
    sides = {"stride_height": stride, "stride_width": stride, "test_batch_size": batch}
    settings = dataclasses.replace(configuration.testing_settings, **sides)
    drawn = synthetic_angiogram(1, 0, ROWS)
    levels = drawn.image[:, :COLUMNS, None]
    _, model, network = on_keras(*NETWORK)
    predict_image(network.predict, levels, settings)
    memory = peak_memory()  # before `model.predict` gets all patches
    patches = patches_of(levels, stride)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predict = partial(model.predict, patches, batch_size=batch, verbose=0)
        model.predict(patches[: batch + len(patches) % batch], batch_size=batch, verbose=0)  # traces
        runs = {"model.predict": predict}
        quick = dataclasses.replace(settings, stride_height=48, stride_width=48)
        for engine, network in engines(*NETWORK, folder).items():
            predict_image(network.predict, levels, quick)
            runs[engine] = partial(predict_image, network.predict, levels, settings)
        seconds = medians(in_turn(runs, arguments.repeats))
        file = folder / "image.png"
        write_png(file, levels[..., 0])
        truth = drawn.non_perfusion[:, :COLUMNS]
        rounds = [other_stages(file, truth, configuration, settings) for _ in range(5)]
    stages = {name: statistics.median(r[name] for r in rounds) for name in STAGES}

    ratios = {name: seconds["model.predict"] / taken for name, taken in seconds.items()}
    claims = [
        *(
            Claim(f"stride {stride}, {engine}, against `model.predict`", ratios[engine], limit, "x", True)
            for engine, limit in AT_LEAST.items()
        ),
        Claim(f"the other stages of an image, stride {stride}", sum(stages.values()), 1, "s"),
        Claim("peak memory of the process, ours, float32", memory, 1500, "MiB"),
    ]
    lines = [
        f"{ROWS}x{COLUMNS} pixels, {len(patches)} patches of 48x48 at stride {stride}, batches of {batch};",
        f"medians of {arguments.repeats}, all in turn. `model.predict` profits from this process's memory",
        "settings (`lib/runtime/keras_startup.py`).",
        "",
        "| | s | patches/s | against `model.predict` |",
        "|---|---|---|---|",
        *(
            f"| {name} | {taken:.2f} | {len(patches) / taken:.0f} | {ratios[name]:.2f} |"
            for name, taken in seconds.items()
        ),
    ]
    lines += ["", "The other stages of the image (median of 5, a network that does nothing):", ""]
    lines += ["| stage | s |", "|---|---|", *(f"| {n} | {s:.3f} |" for n, s in stages.items())]
    result = {"stride": stride, "batch": batch, "patches": len(patches), "seconds": seconds}
    result |= {"stages": stages, "peak_memory_MiB": memory}
    about = machine("keras", "tensorflow", "onnxruntime", "openvino")
    file = arguments.results / "overlap_prediction"
    write_report(file, "Overlapping patches", about, lines, result, claims)


if __name__ == "__main__":
    main()
