"""Scores, time and memory of overlapping patches: published weights of retina-unet on the DRIVE test images.

    python -m benchmarks.overlap --images DRIVE --weights test_best_weights.h5

Prepares the images and imports the weights in a temporary folder. Then runs run_testing.py in a new process
for each setting, to measure its peak memory, and times the stages of one image. Writes
docs/results/overlap.{json,md}.
"""

import json
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import machine, run_process, write_report
from benchmarks.published_network import CONFIGURATION, configured, imported_experiment, published_parser
from lib.runtime.paths import PROJECT

SETTINGS = {
    "stride 5, one image": (48, 48, 5, 5, 32, 1),
    "stride 5": (48, 48, 5, 5, 32, "all"),
    "stride 16": (48, 48, 16, 16, 32, "all"),
    "stride 48, no overlap": (48, 48, 48, 48, 32, "all"),
    "whole image": (584, 565, 584, 565, 1, "all"),
}
KEYS = [
    "test_patch_height",
    "test_patch_width",
    "stride_height",
    "stride_width",
    "test_batch_size",
    "full_images_to_test",
]
# Measured on cores of the same kind with the code of the authors (Keras 2 on TensorFlow 1.15), stride 5.
ORIGINAL_SECONDS = {
    "patches": 0.4,
    "prediction": 49.0,
    "recomposition": 3.5,
    "field of view": 0.6,
    "metrics": 0.3,
}


def measured(folder: Path, values: tuple) -> dict:
    """Scores, seconds and memory of run_testing.py with one setting."""
    settings = configured(folder)
    settings += [f"testing settings.{k}={v}" for k, v in zip(KEYS, values, strict=True)]
    sets = [word for setting in settings for word in ("--set", setting)]
    command = ["run_testing.py", "--config", CONFIGURATION, *sets]
    _, memory = run_process(command)
    file = folder / "experiments" / "published" / "performances.json"
    performances = json.loads(file.read_text(encoding="utf-8"))
    network = performances["network_in_field_of_view"]
    confusion = [f"{kind}_{sign}s" for kind in ("true", "false") for sign in ("negative", "positive")]
    return {
        **{name: network[name] for name in ("auc_roc", "auc_pr", "f1", *confusion, "pixels")},
        "seconds_per_image": float(performances["context"]["prediction"].split()[0]),
        "peak_memory_MiB": round(memory),
    }


def stages(folder: Path, repeats: int = 3) -> dict[str, float]:
    """Median seconds of each stage of one image at stride 5."""
    from lib.configuration.experiment_folder import Experiment
    from lib.configuration.reading import read_configuration
    from lib.datasets.prepared_hdf5 import read_part
    from lib.evaluation.pixel_scores import score_pixels
    from lib.images.preprocessing import network_input, preprocess
    from lib.networks.keras_model import build_model
    from lib.prediction.sliding_window import SlidingWindow

    configuration = read_configuration(CONFIGURATION, configured(folder))
    model = build_model(configuration)
    model.load_weights(Experiment.of(configuration).weights("best"))
    image = next(read_part(configuration.data_paths.hdf5("test")))
    levels = preprocess(image.original, image.field_of_view, configuration.preprocessing)
    times: dict[str, list[float]] = {name: [] for name in ORIGINAL_SECONDS}
    for _ in range(repeats):
        sliding_window = SlidingWindow(levels.shape[:2], (48, 48), (5, 5))
        spent = dict.fromkeys(ORIGINAL_SECONDS, 0.0)
        for start in range(0, len(sliding_window.starts) // 32 * 32, 32):
            chosen = slice(start, start + 32)
            at = time.perf_counter()
            windows = network_input(sliding_window.extract(levels, chosen))
            spent["patches"] += (then := time.perf_counter()) - at
            predicted = np.asarray(model.predict_on_batch(windows))
            spent["prediction"] += (after := time.perf_counter()) - then
            sliding_window.add(predicted[..., 0], chosen)
            spent["recomposition"] += time.perf_counter() - after
        at = time.perf_counter()
        inside = image.field_of_view > 0
        scores, truth = sliding_window.mean[inside], image.truth[inside]
        spent["field of view"] = (then := time.perf_counter()) - at
        score_pixels(scores, truth, 0.5)
        spent["metrics"] = time.perf_counter() - then
        for name, seconds in spent.items():
            times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def tables(result: dict) -> list[str]:
    """The result as two Markdown tables."""
    lines = ["retina-unet's published weights, DRIVE test images, FOV pixels pooled.", ""]
    lines += ["| | AUC-ROC | AUC-PR | F1 | s an image | peak memory, MiB |", "|---|---|---|---|---|---|"]
    for name, row in result["settings"].items():
        lines.append(
            f"| {name} | {row['auc_roc']:.5f} | {row['auc_pr']:.4f} | {row['f1']:.4f} "
            f"| {row['seconds_per_image']:.2f} | {row['peak_memory_MiB']} |"
        )
    lines += ["", "Stages of one image at stride 5, seconds (median of 3).", ""]
    lines += ["| stage | here | the original (TensorFlow 1.15, cores of the same kind) |", "|---|---|---|"]
    for name, seconds in result["stages"].items():
        lines.append(f"| {name} | {seconds:.3f} | {ORIGINAL_SECONDS[name]} |")
    return lines


def main() -> None:
    """Measure and write both files."""
    result: dict = {"settings": {}}
    with imported_experiment(published_parser(__doc__).parse_args()) as folder:
        for name, values in SETTINGS.items():
            result["settings"][name] = measured(folder, values)
            print(name, result["settings"][name], flush=True)
        result["stages"] = stages(folder)
    file = PROJECT / "docs" / "results" / "overlap"
    about = machine("keras", "tensorflow")
    write_report(file, "Overlap: accuracy and time", about, tables(result), result)


if __name__ == "__main__":
    main()
