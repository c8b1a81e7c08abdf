"""Time and scores of the ways to predict a whole image, with the published weights of retina-unet on DRIVE.

    python -m benchmarks.windows --images DRIVE --weights test_best_weights.h5

Chooses on the twenty training images of the weights: the highest AUC within a tenth of the time of stride 5.
Then scores the chosen way, the published way and the simple ways on the test images. Writes
docs/results/windows.{json,md,png}.
"""

import dataclasses
import re
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Claim, machine, write_report
from benchmarks.published_network import CONFIGURATION, configured, imported_experiment, published_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

PUBLISHED = "stride 5"
REPORTED = (PUBLISHED, "stride 16", "side by side", "whole", "auto", "tiles of 512")
"""Scored on the test images together with the chosen way."""

WINDOWS = {
    PUBLISHED: {"window": "overlap", "stride": 5},
    "stride 12": {"window": "overlap", "stride": 12},
    "stride 16": {"window": "overlap", "stride": 16},
    "stride 24": {"window": "overlap", "stride": 24},
    "side by side": {"window": "side_by_side"},
    "patches of 96, stride 48": {"window": "overlap", "patch": 96, "stride": 48},
    "patches of 96, stride 32": {"window": "overlap", "patch": 96, "stride": 32},
    "whole": {"window": "whole"},
    "auto": {"window": "auto"},
    **{f"tiles of {side}": {"window": "tiles", "tile": side} for side in (128, 256, 512)},
    **{
        f"tiles of {side}, half overlapping": {"window": "tiles", "tile": side, "overlap": side // 2}
        for side in (64, 96, 128, 192, 256, 384)
    },
}
MIRRORED = ("whole", "tiles of 512", "patches of 96, stride 48")
FAMILIES = {
    "patches of 48 (their stride)": r"stride (\d+)|side by side",
    "patches of 96 (their stride)": r"patches of 96, stride (\d+)",
    "whole image": "whole|auto",
    "tiles (their side)": r"tiles of (\d+)",
    "tiles, half overlapping (their side)": r"tiles of (\d+), half overlapping",
    "with mirror images": r"(.+), mirrored",
}
"""Patterns of the names of ways with one colour in the figure; the group is the label of the point."""


def candidates() -> dict[str, dict]:
    """The changes of [testing settings] for each way, by its name."""
    every = {}
    for name, chosen in WINDOWS.items():
        patch, stride = chosen.get("patch", 48), chosen.get("stride", 48)
        every[name] = {
            "window": chosen["window"],
            "tile_size": chosen.get("tile", 512),
            "tile_overlap": chosen.get("overlap", 48),
            "tta": "none",
            **{f"test_patch_{side}": patch for side in ("height", "width")},
            **{f"stride_{side}": stride for side in ("height", "width")},
        }
    return every | {f"{name}, mirrored": every[name] | {"tta": "mirrors"} for name in MIRRORED}


def scored(model, configuration, part: str, names: list[str], limits: dict[str, int]) -> dict:
    """Pooled AUC-ROC, AUC-PR and F1 at .5 in the FOV, and seconds per image, of each way."""
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    from lib.datasets.prepared_hdf5 import read_part
    from lib.images.preprocessing import preprocess
    from lib.networks.batches import with_tile_size
    from lib.prediction.sliding_window import predict_image
    from models.cost import activation_bytes_per_pixel

    images = list(read_part(configuration.data_paths.hdf5(part)))
    levels = [preprocess(i.original, i.field_of_view, configuration.preprocessing) for i in images]
    every, found = candidates(), {}
    for name in names:
        settings = dataclasses.replace(configuration.testing_settings, **every[name])
        settings = with_tile_size(settings, partial(activation_bytes_per_pixel, model))
        number = limits.get(name, len(images))
        quick = dataclasses.replace(settings, stride_height=48, stride_width=48)
        predict_image(model.predict_on_batch, levels[0], quick)  # traces
        started = time.perf_counter()
        predicted = [predict_image(model.predict_on_batch, x, settings) for x in levels[:number]]
        seconds = (time.perf_counter() - started) / number
        inside = [image.field_of_view > 0 for image in images[:number]]
        scores = np.concatenate([p[f] for p, f in zip(predicted, inside, strict=True)])
        truth = np.concatenate([i.truth[f] for i, f in zip(images, inside, strict=False)]) > 0
        found[name] = {
            "images": number,
            "auc_roc": float(roc_auc_score(truth, scores)),
            "auc_pr": float(average_precision_score(truth, scores)),
            "f1": float(f1_score(truth, scores >= 0.5)),
            "seconds": seconds,
        }
        print(part, name, found[name], flush=True)
    return found


def draw(file: Path, result: dict) -> None:
    """Draw AUC against seconds on the training images and mark the chosen way."""
    from matplotlib.ticker import ScalarFormatter

    from lib.figures.style import INK, NETWORKS, ORANGE, legend_below, new_figure, save_figure, style_axes

    figure = new_figure(7.0, 5.6)
    axes = figure.add_axes((0.12, 0.36, 0.84, 0.61))
    style_axes(axes)
    for (family, number), colour in zip(FAMILIES.items(), NETWORKS, strict=False):
        found = [
            (r["seconds"], r["auc_roc"], re.fullmatch(number, n))
            for n, r in result["train"].items()
            if n != PUBLISHED and re.fullmatch(number, n)  # stride 5: of fewer images
        ]
        axes.plot(*zip(*[point[:2] for point in found], strict=True), "o", color=colour, label=family)
        for x, y, match in found:
            text = "".join(match.groups(default=""))
            below = family.startswith("tiles (")
            offset = (0, -14 if below else 6)
            axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=8, ha="center")
    chosen = result["train"][result["chosen"]]
    style = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 12}
    label = f"chosen: {result['chosen']}"
    axes.plot(chosen["seconds"], chosen["auc_roc"], "o", **style, label=label)
    label = "a tenth of the time of stride 5"
    axes.axvline(result["limit"], color=ORANGE, linestyle="--", linewidth=1, label=label)
    axes.set_xscale("log")
    axes.set_xticks([0.2, 0.5, 1, 2, 4])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.margins(0.08)
    axes.set_xlabel("Seconds an image")
    axes.set_ylabel("AUC-ROC, DRIVE training images")
    legend_below(axes)
    save_figure(figure, file)


def tables(result: dict) -> list[str]:
    """The result as two Markdown tables."""
    head = "| | images | AUC-ROC | AUC-PR | F1 at .5 | s an image |"
    lines = [
        "retina-unet's published weights; FOV pixels pooled. Chosen on the training images: the highest",
        f"AUC-ROC within a tenth of the time of stride 5 ({result['limit']:.2f} s): **{result['chosen']}**.",
        "",
    ]
    lines += ["![AUC against seconds](windows.png)", ""]
    for part, title in (("train", "Training images"), ("test", "Test images, after the choice")):
        lines += [f"## {title}", "", head, "|---|---|---|---|---|---|"]
        lines += [
            f"| {name} | {r['images']} | {r['auc_roc']:.5f} | {r['auc_pr']:.4f} | {r['f1']:.4f} "
            f"| {r['seconds']:.2f} |"
            for name, r in result[part].items()
        ]
        lines.append("")
    return lines[:-1]


def main() -> None:
    """Measure, choose, score and write the three files."""
    arguments = published_parser(__doc__).parse_args()
    start_keras()
    from lib.configuration.experiment_folder import Experiment
    from lib.configuration.reading import read_configuration
    from lib.networks.keras_model import trained_model

    with imported_experiment(arguments) as folder:
        configuration = read_configuration(CONFIGURATION, configured(folder))
        model = trained_model(configuration, Experiment.of(configuration).weights("best"))
        train = scored(model, configuration, "train", list(candidates()), {PUBLISHED: 3})
        limit = train[PUBLISHED]["seconds"] / 10
        allowed = [n for n, row in train.items() if row["seconds"] <= limit]
        chosen = max(allowed, key=lambda name: train[name]["auc_roc"])
        names = list(dict.fromkeys([*REPORTED, chosen]))
        test = scored(model, configuration, "test", names, {})
    times = test[PUBLISHED]["seconds"] / test[chosen]["seconds"]
    claims = [
        Claim(f"{chosen}, against stride 5", times, 10, "x", True),
        Claim(f"{chosen}, AUC on DRIVE's test images", test[chosen]["auc_roc"], 0.9776, "", True),
    ]
    result = {"limit": limit, "chosen": chosen, "train": train, "test": test}
    report = PROJECT / "docs" / "results" / "windows"
    draw(report.with_suffix(".png"), result)
    about = machine("keras", "tensorflow")
    write_report(report, "Ways to predict a whole image", about, tables(result), result, claims)


if __name__ == "__main__":
    main()
