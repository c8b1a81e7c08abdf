"""Our prediction of an image in overlapping patches against `model.predict` on the same patches.

    python -m benchmarks.overlap_prediction [--stride 5]

retina-unet with fresh weights on a synthetic angiogram of DRIVE's size. Ours is the whole way from the
preprocessed image to the mean of all patches; `model.predict` is handed the patches ready cut.
"""

import dataclasses
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import (
    Claim,
    benchmark_parser,
    in_turn,
    machine,
    medians,
    peak_memory,
    write_report,
)
from lib.command_line import PROJECT
from lib.configuration import read_configuration
from lib.keras_backend import start_keras

ROWS, COLUMNS = 584, 565
PATCH = (48, 48)
PRECISIONS = ("float32", "mixed_bfloat16")
STAGES = ("reading", "field of view", "preprocessing", "cutting and putting together", "metrics")
CONFIGURATION = PROJECT / "configurations" / "drive_retina_unet.txt"


def patches_of(levels: np.ndarray, stride: int) -> np.ndarray:
    from lib.patches import Recomposition
    from lib.preprocessing import network_input

    recomposition = Recomposition(levels.shape, PATCH, (stride, stride))
    return network_input(recomposition.extract(levels))[..., None]


def other_stages(file: Path, truth: np.ndarray, configuration, settings) -> dict[str, float]:
    """Seconds of all that is done to an image but its prediction."""
    from lib.field_of_view import detect_field_of_view
    from lib.images import read_image
    from lib.pixel_scores import score_pixels
    from lib.prediction import predict_image
    from lib.preprocessing import preprocess

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
    from lib.experiment import build_model
    from lib.images import write_png
    from lib.prediction import predict_image
    from lib.synthetic_angiograms import synthetic_angiogram

    configuration = read_configuration(CONFIGURATION)
    sides = {"stride_height": stride, "stride_width": stride, "test_batch_size": batch}
    settings = dataclasses.replace(configuration.testing_settings, **sides)
    drawn = synthetic_angiogram(1, 0, ROWS)
    levels = drawn.image[:, :COLUMNS]
    first = build_model(configuration, "float32")
    predict_image(first.predict_on_batch, levels, settings)
    memory = peak_memory()  # before `model.predict` is handed all patches at once
    models = {"float32": first, "mixed_bfloat16": build_model(configuration, "mixed_bfloat16")}
    patches = patches_of(levels, stride)

    runs = {}
    for precision, model in models.items():
        predict = partial(model.predict, batch_size=batch, verbose=0)
        model.predict_on_batch(patches[:batch])  # traces
        predict(patches[: batch + len(patches) % batch])
        ours = partial(predict_image, model.predict_on_batch, levels, settings)
        runs[f"ours, {precision}"] = ours
        runs[f"model.predict, {precision}"] = partial(predict, patches)
    seconds = medians(in_turn(runs, arguments.repeats))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        write_png(file, levels)
        truth = drawn.non_perfusion[:, :COLUMNS]
        rounds = [other_stages(file, truth, configuration, settings) for _ in range(5)]
    stages = {name: statistics.median(r[name] for r in rounds) for name in STAGES}

    predict = seconds["model.predict, float32"]
    ratios = {p: predict / seconds[f"ours, {p}"] for p in PRECISIONS}
    claims = [
        Claim("float32, ours against `model.predict`", ratios["float32"], 1.15, "x", True),
        Claim(
            "mixed_bfloat16 against `model.predict` in float32",
            ratios["mixed_bfloat16"],
            2,
            "x",
            True,
        ),
        Claim(f"the other stages of an image, stride {stride}", sum(stages.values()), 1, "s"),
        Claim("peak memory of the process, ours, float32", memory, 1500, "MiB"),
    ]
    lines = [
        f"{ROWS}x{COLUMNS} pixels, {len(patches)} patches of 48x48 at stride {stride}, batches of {batch};",
        f"medians of {arguments.repeats}, all in turn.",
        "",
        "| | s | patches/s | against `model.predict` in the same precision |",
        "|---|---|---|---|",
    ]
    for name, taken in seconds.items():
        same = seconds[f"model.predict, {name.split(', ')[1]}"] / taken
        lines.append(f"| {name} | {taken:.2f} | {len(patches) / taken:.0f} | {same:.2f} |")
    lines += ["", "The other stages of the image (median of 5, a network that does nothing):", ""]
    lines += ["| stage | s |", "|---|---|", *(f"| {n} | {s:.3f} |" for n, s in stages.items())]
    result = {"stride": stride, "batch": batch, "patches": len(patches), "seconds": seconds}
    result |= {"stages": stages, "peak_memory_MiB": memory}
    about = machine("keras", "tensorflow")
    file = arguments.results / "overlap_prediction"
    write_report(file, "Overlapping patches", about, lines, result, claims)


if __name__ == "__main__":
    main()
