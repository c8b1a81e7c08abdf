"""Figures of the cross-validation of ffa_recommended.txt, from the finished runs of its plan.

    python run_experiments.py configurations/cross_validation_ffa_recommended.txt
    python -m benchmarks.cnp_cross_validation

Both take `--set "section.key=value"`; the second takes `--gpu` for cross_validation_ffa_recommended_gpu.txt.
Writes docs/results/cnp_cross_validation.{json,md}, or cnp_cross_validation_gpu, and an overlay of each image
into the folder of the plan. All figures are of FOV pixels; each image is predicted by the ensemble
of the networks that were not trained on its fold.
"""

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.measuring import benchmark_parser, machine
from lib.datasets.leakage import EXPERIMENT
from lib.datasets.split_file import read_split
from lib.evaluation.measures.image_measures import MEASURES
from lib.evaluation.patient_statistics import RESAMPLES, SCORES, SEED, Estimate, ScoredImage
from lib.evaluation.pixel_scores import choose_threshold, defined, f1_score, score_pixels
from lib.evaluation.pooled_pixels import PooledPixels
from lib.evaluation.test_run import draw_overlay
from lib.experiments.plan import Plan, Run, read_plan
from lib.experiments.pooled_folds import DARKNESS, cross_fitted, read_tested_images, read_variants
from lib.experiments.statistics_report import markdown_table
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.training.losses_and_metrics import auc_roc

PLAN = PROJECT / "configurations" / "cross_validation_ffa_recommended.txt"
REPORTED = {
    "auc_roc": "AUC-ROC",
    "auc_pr": "AUC-PR",
    "dice": "Dice",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
"""Scores by their names in the JSON file, and the headings of the table."""


def finished_runs(plan: Plan) -> tuple[Run, ...]:
    """All runs of the plan.

    Raises:
        UserError: some of them are not finished: the figures would not be those of the plan.
    """
    if missing := [run.name for run in plan.runs if not run.is_tested]:
        raise UserError(
            f"{plan.folder}: {len(missing)} of {len(plan.runs)} runs are not finished, e.g. {missing[0]}; "
            f"run: python run_experiments.py configurations/{plan.name}.txt"
        )
    return plan.runs


def trained_by(runs: Iterable[Run]) -> str:
    """Backends and devices on which the runs were trained, e.g. "tensorflow on cpu:0"."""
    records = [run.experiment.training_record() for run in runs]
    return ", ".join(sorted({f"{record['backend']} on {record['device']}" for record in records}))


def image_auc(images: Sequence[ScoredImage]) -> tuple[float, list[float]]:
    """Mean AUC-ROC of an image, and its 95 % interval by a bootstrap of patients."""
    patients = sorted({image.patient for image in images})
    by_patient = [[auc_roc(i.scores, i.truth) for i in images if i.patient == p] for p in patients]
    sums, numbers = (np.array([f(areas) for areas in by_patient]) for f in (np.sum, np.size))
    bootstrap = stats.bootstrap(
        (sums, numbers),
        lambda total, number, axis=-1: total.sum(axis) / number.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(sums.sum() / numbers.sum()), [float(end) for end in bootstrap.confidence_interval]


def figures_of(name: str, estimate: Estimate) -> dict[str, object]:
    """Value and interval of each reported score, under names that begin with `name`."""
    scores = ["dice" if score == "f1" else score for score in SCORES]
    values = dict(zip(scores, estimate.values.tolist(), strict=True))
    intervals = dict(zip(scores, estimate.interval().tolist(), strict=True))
    found: dict[str, object] = {}
    for score in REPORTED:
        found[f"{name}{score}"] = values[score]
        found[f"{name}{score}_interval"] = intervals[score]
    return found


def measures_of(estimate: Estimate) -> dict[str, object]:
    """Value and interval of each of `MEASURES`, None where it is not defined."""
    found: dict[str, object] = {}
    for name, value, ends in zip(MEASURES, estimate.values, estimate.interval(), strict=True):
        found[name] = defined(value)
        found[f"{name}_interval"] = [defined(end) for end in ends] if np.isfinite(value) else None
    return found


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--gpu", action="store_true", help="the plan for a GPU")
    arguments = parser.parse_args()
    suffix = "_gpu" if arguments.gpu else ""
    plan = read_plan(PLAN.with_stem(PLAN.stem + suffix), arguments.overrides)
    runs = finished_runs(plan)
    ensemble = read_variants(plan)[-1]  # with several seeds, that of all seeds
    darkness = ensemble.baselines[DARKNESS].estimate
    images = cross_fitted(runs, lambda case: case.probability)
    mean, interval = image_auc(images)
    content = {
        **figures_of("", ensemble.network.estimate),
        "mean_image_auc": mean,
        "mean_image_auc_interval": interval,
        **figures_of("darkness_", darkness),
        **figures_of("difference_", ensemble.network.estimate.minus(darkness)),
        **measures_of(ensemble.measures),
        "images": len(images),
        "patients": len({image.patient for image in images}),
        "negatives": sum(
            member.negative for member in read_split(runs[0].experiment.split, EXPERIMENT)["train"]
        ),
        "each_image": each_image(images),
        "by_size": by_size(images),
        "seeds": len({run.seed for run in runs}),
        "folds": len({fold for run in runs for fold in run.folds}),
        "trained_by": trained_by(runs),
        "date": datetime.date.today().isoformat(),
        "machine": machine("tensorflow"),
    }
    content["dice_difference_interval"] = content["difference_dice_interval"]
    # For a network that is trained on all images: the threshold that all of them choose.
    content["threshold_of_all_images"] = choose_threshold(PooledPixels((i.scores, i.truth) for i in images))
    draw(plan.folder / "overlays", runs, images)
    file = arguments.results / f"cnp_cross_validation{suffix}.json"
    write_text(file, json.dumps(content, indent=2) + "\n")
    write_text(file.with_suffix(".md"), report(content, gpu=arguments.gpu))
    print(file)


def draw(folder: Path, runs: Sequence[Run], images: Sequence[ScoredImage]) -> None:
    """Write an overlay of each image, predicted by its ensemble."""
    folder.mkdir(exist_ok=True)
    cases = {case.name: case for _, case in read_tested_images(runs)}
    for image in images:
        case = cases[image.name]
        probability = np.zeros(case.truth.shape, np.float32)
        probability[case.field_of_view > 0] = image.scores
        assert image.threshold is not None  # cross_fitted gives each image one
        draw_overlay(
            folder / f"{image.name}.png",
            replace(case, probability=probability),
            score_pixels(image.scores, image.truth, image.threshold),
            image.threshold,
        )


def each_image(images: Sequence[ScoredImage]) -> list[dict[str, object]]:
    """Scores of each image, and the shares of its FOV that are outlined, largest truth first."""
    rows = []
    for image in sorted(images, key=lambda i: -i.truth.mean()):
        tn, fp, fn, tp = image.confusion()
        rows.append(
            {
                "image": image.name,
                "truth": float(image.truth.mean()),
                "predicted": float((tp + fp) / (tn + fp + fn + tp)),
                "auc_roc": auc_roc(image.scores, image.truth),
                "dice": f1_score(tp, fp, fn),
            }
        )
    return rows


def by_size(images: Sequence[ScoredImage]) -> list[dict[str, object]]:
    """Dice of the images whose truth covers less than 5 %, 5 to 15 % and more of the FOV."""
    rows = []
    for low, high in ((0.0, 0.05), (0.05, 0.15), (0.15, 1.0)):
        chosen = [image for image in images if low <= image.truth.mean() < high]
        if chosen:
            _, fp, fn, tp = np.sum([image.confusion() for image in chosen], axis=0)
            each = [f1_score(c[3], c[1], c[2]) for c in (image.confusion() for image in chosen)]
            rows.append(
                {
                    "truth": f"{100 * low:.0f} to {100 * high:.0f} %",
                    "images": len(chosen),
                    "pooled_dice": f1_score(tp, fp, fn),
                    "median_dice": float(np.median(each)),
                }
            )
    return rows


def report(content: dict, *, gpu: bool) -> str:
    """The tables for people; `gpu`: they are of the plan for a GPU."""

    def cell(name: str, sign: str = "") -> str:
        low, high = content[f"{name}_interval"]
        return f"{content[name]:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    rows = [
        ["network (ensemble)", *(cell(score) for score in REPORTED)],
        ["blurred darkness", *(cell(f"darkness_{score}") for score in REPORTED)],
        ["difference", *(cell(f"difference_{score}", "+") for score in REPORTED)],
    ]
    each = [
        [
            row["image"],
            *(f"{100 * row[share]:.1f} %" for share in ("truth", "predicted")),
            *(f"{row[score]:.3f}" for score in ("auc_roc", "dice")),
        ]
        for row in content["each_image"]
    ]
    sizes = [
        [row["truth"], row["images"], f"{row['pooled_dice']:.3f}", f"{row['median_dice']:.3f}"]
        for row in content["by_size"]
    ]
    lines = [
        f"# Cross-validation by patient of the recommended configuration{' for a GPU' if gpu else ''}",
        "",
        f"Made by `python -m benchmarks.cnp_cross_validation{' --gpu' if gpu else ''}`, {content['date']}, "
        f"on {content['machine']['cores']} cores of {content['machine']['cpu']}. Trained by "
        f"{content['trained_by']}.",
        "",
        f"{content['images']} angiograms of {content['patients']} patients, {content['folds']} folds, "
        f"{content['seeds']} seed(s); {content['negatives']} further angiograms without non-perfusion train "
        "in every fold ([how to repeat it](../how-to/repeat-the-results.md)). Pooled pixels of the FOV; in "
        "brackets: 95 % interval by a patient-level bootstrap. The threshold of an image comes from the "
        "other folds ([decision 39](../decisions/0039-two-folds-left-out.md)). The settings were chosen by "
        "out-of-fold scores of the same images ([search](cnp_search.md)), so the scores are too high, by an "
        "unknown amount.",
        "",
        markdown_table(["", *REPORTED.values()], rows),
        "",
        f"Mean AUC-ROC of an image: {cell('mean_image_auc')}.",
        "",
        "## Each image",
        "",
        "The truth and the predicted area are shares of the field of view.",
        "",
        markdown_table(["image", "truth", "predicted", "AUC-ROC", "Dice"], each),
        "",
        "## By the size of the area",
        "",
        markdown_table(["truth in the FOV", "images", "pooled Dice", "median Dice"], sizes),
        "",
        "## Boundaries, single areas and index",
        "",
        "[Definitions](../reference/scores.md#boundaries-single-areas-and-index); "
        "[published figures](../reference/scores.md#published-figures).",
        "",
        markdown_table(
            ["", "network (ensemble)"],
            [[title, cell(name)] for name, title in MEASURES.items() if content[name] is not None],
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
