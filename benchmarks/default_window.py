"""Scores, time and memory of the default window, compared with the whole image and with the earlier default.

    python -m benchmarks.default_window --images DRIVE --weights test_best_weights.h5

Predicts an image of 4000x4000 and one of 768x768 with a small Enhance LadderNet, one of 768x868 with a
full-width one, then the test images of DRIVE with the published weights. All ways in turn. Times are medians
of the processor time of this process, since other processes may run at the same time. Writes
docs/results/default_window.{json,md}.
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.measuring import Claim, machine, peak_memory, write_report
from benchmarks.prediction_latency import on_keras
from benchmarks.published_network import CONFIGURATION, configured, imported_experiment, published_parser
from lib.networks.batches import TILE_OVERLAP
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

LARGE, SMALL = 4000, 768
WAYS = {
    "whole": {"window": "whole"},
    "auto": {"window": "auto"},
    "auto, 4 tiles": {"window": "auto", "tile_size": 320, "tile_overlap": TILE_OVERLAP},
    "tiles of 192, half overlapping": {"window": "tiles", "tile_size": 192, "tile_overlap": 96},
}


def predicted(predict, levels: np.ndarray, settings) -> tuple[np.ndarray, float]:
    """The probability of an image, and the seconds of processor time."""
    from lib.prediction.sliding_window import predict_image

    started = time.process_time()
    probability = predict_image(predict, levels, settings)
    return probability, time.process_time() - started


def random_levels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(height, width, 1), dtype=np.uint8)


def large_and_small() -> tuple[dict[int, float], float]:
    """Seconds of an image of each size, with a small network, and the peak memory in MiB."""
    _, model, network = on_keras("enhance_laddernet", "16 32 64 128")
    seconds: dict[int, list[float]] = {SMALL: [], LARGE: []}
    predicted(model.predict_on_batch, random_levels(SMALL, SMALL), network.testing_settings)  # traces
    for side in (SMALL, SMALL, SMALL, LARGE, SMALL, SMALL, SMALL):
        levels = random_levels(side, side)
        seconds[side].append(predicted(model.predict_on_batch, levels, network.testing_settings)[1])
    return {side: statistics.median(found) for side, found in seconds.items()}, peak_memory()


def full_width(ways: Sequence[str]) -> dict[str, float]:
    """Seconds of 768x868 with the network of the paper."""
    _, model, network = on_keras("enhance_laddernet", "64 128 256 512")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    levels = random_levels(768, 868)
    for _ in range(3):
        for way in ways:
            settings = network.testing_settings
            settings = settings if way == "auto" else dataclasses.replace(settings, **WAYS[way])
            seconds[way].append(predicted(model.predict_on_batch, levels, settings)[1])
    return {way: statistics.median(found[1:]) for way, found in seconds.items()}  # the first traces


def drive(configuration) -> dict[str, dict[str, float]]:
    """Pooled scores in the field of view, and seconds an image, of each of `WAYS` on the test images."""
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    from lib.configuration.experiment_folder import Experiment
    from lib.datasets.prepared_hdf5 import read_part
    from lib.images.preprocessing import preprocess
    from lib.networks.batches import with_tile_size
    from lib.networks.keras_model import trained_model
    from models.cost import activation_bytes_per_pixel

    model = trained_model(configuration, Experiment.of(configuration).weights("best"))
    settings = {w: dataclasses.replace(configuration.testing_settings, **s) for w, s in WAYS.items()}
    settings["auto"] = with_tile_size(settings["auto"], partial(activation_bytes_per_pixel, model))
    scores: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    truths = []
    for image in read_part(configuration.data_paths.hdf5("test")):
        levels = preprocess(image.original, image.field_of_view, configuration.preprocessing)
        inside = image.field_of_view > 0
        truths.append(image.truth[inside] > 0)
        for way in WAYS:
            probability, taken = predicted(model.predict_on_batch, levels, settings[way])
            scores[way].append(probability[inside])
            seconds[way].append(taken)
    truth, rows = np.concatenate(truths), {}
    for way in WAYS:
        found = np.concatenate(scores[way])
        rows[way] = {
            "auc_roc": float(roc_auc_score(truth, found)),
            "auc_pr": float(average_precision_score(truth, found)),
            "f1": float(f1_score(truth, found >= 0.5)),
            "seconds": statistics.median(seconds[way]),
        }
    return rows


def main() -> None:
    arguments = published_parser(__doc__).parse_args()
    start_keras()
    from lib.configuration.reading import read_configuration

    by_side, memory = large_and_small()
    paper = full_width(("whole", "auto"))
    with imported_experiment(arguments) as folder:
        rows = drive(read_configuration(CONFIGURATION, configured(folder)))
    share = by_side[LARGE] / by_side[SMALL] / (LARGE / SMALL) ** 2
    auto, whole = rows["auto"], rows["whole"]
    claims = [
        Claim("4000x4000, seconds a pixel against those of 768x768", share, 1.1, "x"),
        Claim("4000x4000, peak memory of the process", memory * 2**20 / 1e9, 1.5, "GB"),
        Claim("768x868, full width, against the whole image", paper["auto"] / paper["whole"], 1.2, "x"),
        Claim("DRIVE, against the whole image", auto["seconds"] / whole["seconds"], 1.2, "x"),
        Claim("DRIVE, AUC-ROC below the whole image's", whole["auc_roc"] - auto["auc_roc"], 0.0001),
    ]
    lines = [
        "Seconds of processor time (about twice the time of two cores without other processes), medians, all",
        "ways in turn. Enhance LadderNet with filters 16 32 64 128: "
        f"{by_side[SMALL]:.2f} s for 768x768, {by_side[LARGE]:.2f} s for 4000x4000.",
        f"With those of the paper, 768x868: whole {paper['whole']:.1f} s, auto {paper['auto']:.1f} s.",
        "",
        "DRIVE test images, published weights of retina-unet, FOV pixels pooled; `auto` predicts these",
        "images whole, so a smaller limit of memory, which needs four tiles, is shown too:",
        "",
        "| | AUC-ROC | AUC-PR | F1 at .5 | s an image |",
        "|---|---|---|---|---|",
        *(
            f"| {way} | {r['auc_roc']:.6f} | {r['auc_pr']:.4f} | {r['f1']:.4f} | {r['seconds']:.2f} |"
            for way, r in rows.items()
        ),
    ]
    result = {"large_and_small": by_side, "full_width": paper, "drive": rows}
    about = machine("keras", "tensorflow")
    write_report(
        PROJECT / "docs" / "results" / "default_window", "The default window", about, lines, result, claims
    )


if __name__ == "__main__":
    main()
