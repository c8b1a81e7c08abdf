"""Are images about which the views of a network disagree those with the largest errors?

    python run_experiments.py configurations/cross_validation_ffa_recommended.txt
    python -m benchmarks.certainty

Real angiograms: each is predicted out-of-fold by the two networks (two seeds) of a pair of folds, as an
ensemble of Keras and as their mean, which an ONNX file holds; four pairs of folds test each image. Takes the
same `--set "section.key=value"` as run_experiments.py. Synthetic angiograms: the shipped network, which has
seen none of them; half of the images are blurred, darkened and noisy.

The error of an image is the absolute difference of predicted and true share of the field of view. Writes
docs/results/certainty.{json,md}.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
from scipy.stats import spearmanr

from benchmarks.cnp_cross_validation import PLAN, finished_runs
from benchmarks.measuring import Claim, benchmark_parser, machine, write_report
from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.experiments.plan import read_plan
from lib.experiments.pooled_folds import read_tested_images
from lib.experiments.statistics_report import markdown_table
from lib.images.masks import binary_mask
from lib.images.preprocessing import preprocess
from lib.networks.from_experiments import read_keras_ensemble
from lib.networks.from_onnx import read_onnx_network
from lib.networks.network_choice import SHIPPED_NETWORK
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.certainty.disagreement import DISAGREEMENT, disagreement_map, uncertainty
from lib.prediction.sliding_window import at_stored_size, mean_of_views, predict_views
from lib.runtime.keras_startup import start_keras

SYMMETRIES, SIZE, SEED = 8, 512, 31
LEAST_RATIO = 2.0
POINT = ("testing settings.threshold=0.096", "testing settings.min_area_px=20")
"""The operating point of the shipped network."""


@dataclass(frozen=True)
class Judged:
    """One prediction: its disagreement, its error, and its range of the share.

    Attributes:
        in_range: 1 if the true share is in the range, else 0.
    """

    name: str
    disagreement: float
    error: float
    in_range: float
    width: float


def judged(
    name: str, network: TrainedNetwork, views: np.ndarray, inside: np.ndarray, truth: np.ndarray
) -> Judged:
    """Compare the views of an image with its truth; field of view and truth are (H, W)."""
    settings, point = network.testing_settings, (network.threshold, network.min_area_px)
    probability = at_stored_size(mean_of_views(views), inside, settings)
    disagreement = disagreement_map(views, inside, settings.logit_shift)
    found = uncertainty(probability, disagreement, inside, *point)
    low, high = found["ischaemic_index_low"], found["ischaemic_index_high"]
    mask = binary_mask(probability, inside, *point)
    predicted, true = (float(m[inside > 0].mean()) for m in (mask, truth))
    return Judged(name, found[DISAGREEMENT], abs(predicted - true), float(low <= true <= high), high - low)


def out_of_fold(overrides: Sequence[str]) -> Iterator[tuple[str, Judged]]:
    """Each test image of each pair of folds: by the ensemble, and by the mean of its two networks."""
    runs = finished_runs(read_plan(PLAN, overrides))
    by_folds = defaultdict(list)
    for run in runs:
        by_folds[run.folds].append(run)
    for together in by_folds.values():
        network = read_keras_ensemble([run.experiment for run in together], POINT)
        for _, case in read_tested_images(together[:1]):
            settings = network.testing_settings
            levels = preprocess(
                case.original, case.field_of_view, network.preprocessing, settings.relative_angle
            )
            views = predict_views(network.predict, levels, settings)
            mean = views.reshape(SYMMETRIES, -1, *views.shape[1:]).mean(axis=1)
            for design, shown in (("ensemble", views), ("mean, as in ONNX", mean)):
                yield design, judged(case.name, network, shown, case.field_of_view, case.truth)


def degraded(image: np.ndarray, number: int) -> np.ndarray:
    """Every second image blurred, darkened and noisy, each to another degree."""
    if number % 2 == 0:
        return image
    rng = np.random.default_rng([SEED, number])
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.5, 3))
    levels = blurred * rng.uniform(0.3, 1) + rng.normal(0, rng.uniform(1, 8), image.shape)
    return np.clip(levels, 0, 255).astype(np.uint8) * (image > 0)


def synthetic(number: int) -> Iterator[Judged]:
    """Drawn angiograms, predicted by the shipped network."""
    network = read_onnx_network(SHIPPED_NETWORK)
    for index in range(number):
        drawn = synthetic_angiogram(SEED, index, SIZE)
        image, inside = degraded(drawn.image, index), drawn.field_of_view
        levels = preprocess(image, inside, network.preprocessing)
        views = predict_views(network.predict, levels, network.testing_settings)
        yield judged(str(index), network, views, inside, drawn.non_perfusion)


def mean_of_each_image(predictions: Sequence[Judged]) -> list[Judged]:
    """The mean of the predictions of each image."""
    by_name = defaultdict(list)
    for prediction in predictions:
        by_name[prediction.name].append(astuple(prediction)[1:])
    return [Judged(name, *np.mean(rows, axis=0).tolist()) for name, rows in by_name.items()]


def figures(predictions: Sequence[Judged]) -> dict[str, float]:
    """What the page shows of one set of predictions; `by_width`: ordered by the width of the range."""
    errors = np.array([prediction.error for prediction in predictions])
    tenth = max(1, round(len(errors) / 10))
    found = {
        "predictions": len(errors),
        "tenth": tenth,
        "error": float(errors.mean()),
        "truth_in_range": float(np.mean([p.in_range for p in predictions])),
        "width_of_range": float(np.mean([p.width for p in predictions])),
    }
    for ending, doubts in (
        ("", np.array([p.disagreement for p in predictions])),
        ("_by_width", np.array([p.width for p in predictions])),
    ):
        least_certain = np.argsort(-doubts, kind="stable")[:tenth]
        found[f"least{ending}"] = float(doubts[least_certain].min())
        found[f"ratio{ending}"] = float(errors[least_certain].mean() / errors.mean())
        found[f"spearman{ending}"] = float(spearmanr(doubts, errors).statistic)
    return found


def report(found: dict[str, dict[str, float]]) -> list[str]:
    """The table for people."""
    heads = [
        "",
        "predictions (tenth)",
        "mean error",
        "by disagreement: ratio, rank correlation",
        "disagreement of the tenth",
        "by width of the range: ratio, rank correlation",
        "truth in the range",
        "mean width",
    ]
    rows = [
        [
            name,
            f"{f['predictions']} ({f['tenth']})",
            f"{f['error']:.3f}",
            f"{f['ratio']:.2f}, {f['spearman']:.2f}",
            f"{f['least']:.3f}",
            f"{f['ratio_by_width']:.2f}, {f['spearman_by_width']:.2f}",
            f"{100 * f['truth_in_range']:.0f} %",
            f"{f['width_of_range']:.3f}",
        ]
        for name, f in found.items()
    ]
    return [
        "The error is the absolute difference of the predicted and the true ischaemic index. *Ratio*: mean "
        "error of the tenth with the largest disagreement, or with the widest range, divided by that of all.",
        "",
        markdown_table(heads, rows),
        "",
        "Each real angiogram is out-of-fold for four pairs of networks: these predictions depend on each "
        "other; in the rows *each image*, the four are averaged, and the tenth is two of sixteen images. The "
        "threshold, that of the shipped network, and the pixels over which the disagreement is averaged were "
        "chosen on the same sixteen images: their figures are too good by an unknown amount.",
        "",
        "On the real angiograms, the disagreement shows the large errors. On the drawn ones, it has no rank "
        "correlation with the error, but the width of the range (`ischaemic_index_high` minus "
        "`ischaemic_index_low`) has.",
    ]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--synthetic", type=int, default=100, metavar="N", help="number of drawn angiograms")
    arguments = parser.parse_args()
    start_keras()
    real = defaultdict(list)
    for design, one in out_of_fold(arguments.overrides):
        real[design].append(one)
    found = {}
    for design, predictions in real.items():
        found[f"real, {design}"] = figures(predictions)
        found[f"real, {design}, each image"] = figures(mean_of_each_image(predictions))
    drawn = list(synthetic(arguments.synthetic))
    found["synthetic"] = figures(drawn)
    found["synthetic, not degraded"] = figures(drawn[::2])
    claims = [
        Claim(
            f"error of the tenth with the largest disagreement / mean error, {name}",
            found[name]["ratio"],
            LEAST_RATIO,
            "",
            True,
        )
        for name in ("real, mean, as in ONNX", "synthetic")
    ]
    title = "Disagreement and error"
    write_report(
        arguments.results / "certainty",
        title,
        machine("tensorflow", "onnxruntime"),
        report(found),
        {"figures": found},
        claims,
    )


if __name__ == "__main__":
    main()
