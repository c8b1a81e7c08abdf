"""What the runs of a plan predicted, pooled: every image by a network that has not seen its patient."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lib.agreement import Reliability, reliability
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.evaluation import PredictedImage, blurred_darkness
from lib.experiments import Plan, Run
from lib.intervals import SCORES, Estimate, PatientCounts, ScoredImage, count_patients, estimate
from lib.predictions import read_predictions

CHOSEN = "chosen by validation, fold by fold"
DARKNESS, BACKGROUND, HUMAN = "blurred darkness", "all background", "second observer"


@dataclass(frozen=True, eq=False)
class Pooled:
    """The pooled pixels of all patients.

    Attributes:
        counts: of each patient, one for each seed of training; all of the same patients.
        estimate: their scores.
    """

    counts: tuple[PatientCounts, ...]
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant of a plan on the images of all its folds.

    Attributes:
        name: e.g. "unet".
        images: name of every image, sorted.
        confusion: (seeds, images, 4) float64: TN, FP, FN, TP of FOV pixels.
        reliability: of its probabilities, all seeds pooled.
        network: its pixels.
        baselines: by name what it has to beat, on the same patients.
    """

    name: str
    images: tuple[str, ...]
    confusion: np.ndarray
    reliability: Reliability
    network: Pooled
    baselines: dict[str, Pooled]


def read_variants(plan: Plan) -> list[Variant]:
    """Each variant of which every seed of training has predicted a patient, from the finished runs."""
    names = dict.fromkeys(run.variant for run in plan.runs)
    found = (
        _read_variant(plan, name, [run for run in plan.runs if run.variant == name])
        for name in names
    )
    return [variant for variant in found if variant]


def chosen_in_each_fold(plan: Plan) -> list[Variant]:
    """Of a cross-validation of several variants one more: that of the best validation AUC in each fold.

    What choosing among the variants is worth where no tested patient has a say (nested cross-validation;
    Varma and Simon, BMC Bioinformatics 7:91, 2006).
    """
    scores = {run: score for run in plan.runs if run.fold and (score := _validation_auc(plan, run))}
    if len({run.variant for run in scores}) < 2:
        return []
    groups = dict.fromkeys((run.seed, run.fold) for run in scores)
    chosen = [
        max((run for run in scores if (run.seed, run.fold) == group), key=scores.get)
        for group in groups
    ]
    variant = _read_variant(plan, CHOSEN, chosen)
    return [variant] if variant else []


def _validation_auc(plan: Plan, run: Run) -> float | None:
    """The best of all its epochs; None where it has not been trained."""
    history = read_configuration(plan.base, run.overrides).experiment_name.folder / "history.csv"
    if not history.is_file():
        return None
    with history.open(encoding="utf-8", newline="") as file:
        return max(float(row["val_auc"]) for row in csv.DictReader(file))


def results_of(plan: Plan, run: Run) -> Experiment:
    """Where the run was tested: its folder, or one within it for another set's images."""
    configuration = read_configuration(plan.base, run.overrides)
    return Experiment(configuration.results_folder, configuration.experiment_name.name)


def read_cases(plan: Plan, runs: Iterable[Run]) -> Iterator[tuple[dict, PredictedImage]]:
    """Every image that the runs have tested, with what testing measured in its run."""
    for run in runs:
        results = results_of(plan, run)
        measured = results.folder / "performances.json"
        if measured.is_file() and results.predictions.is_file():
            content = json.loads(measured.read_text(encoding="utf-8"))
            yield from ((content, case) for case in read_predictions(results.predictions))


def _read_variant(plan: Plan, name: str, runs: Sequence[Run]) -> Variant | None:
    seeds, baselines = [], defaultdict(list)
    for seed in dict.fromkeys(run.seed for run in runs):
        images = []
        for measured, case in read_cases(plan, [run for run in runs if run.seed == seed]):
            images.append(_scored(case, case.probability, measured["threshold"]))
            if not seeds:  # baselines know no seed
                for baseline, image in _baselines(measured, case):
                    baselines[baseline].append(image)
        seeds.append(images)
    patients = set.intersection(*({image.patient for image in images} for images in seeds))
    if not patients:
        return None
    seeds = [_of_patients(images, patients) for images in seeds]
    return Variant(
        name,
        tuple(image.name for image in seeds[0]),
        np.array([[image.confusion() for image in images] for images in seeds]),
        reliability([(image.scores, image.truth) for images in seeds for image in images]),
        _pooled(seeds),
        {
            baseline: _pooled([chosen], has_areas=baseline != HUMAN)
            for baseline, images in baselines.items()
            # A second observer counts who has drawn every image.
            if len(chosen := _of_patients(images, patients)) == len(seeds[0])
        },
    )


def _pooled(seeds: Sequence[Sequence[ScoredImage]], *, has_areas: bool = True) -> Pooled:
    counts = tuple(count_patients(images) for images in seeds)
    estimated = estimate(counts)
    if not has_areas:  # a mask is one point of a curve
        estimated.values[[SCORES.index("auc_roc"), SCORES.index("auc_pr")]] = np.nan
    return Pooled(counts, estimated)


def _of_patients(images: Sequence[ScoredImage], patients: set[str]) -> list[ScoredImage]:
    return sorted((i for i in images if i.patient in patients), key=lambda i: i.name)


def _baselines(measured: dict, case: PredictedImage) -> Iterator[tuple[str, ScoredImage]]:
    threshold = measured["blurred_darkness_in_field_of_view"]["threshold"]
    yield DARKNESS, _scored(case, blurred_darkness(case.original), threshold)
    yield BACKGROUND, _scored(case, np.zeros(case.truth.shape, np.float32), 0.5)
    if case.second_observer is not None:
        yield HUMAN, _scored(case, case.second_observer.astype(np.float32), 0.5)


def _scored(case: PredictedImage, scores: np.ndarray, threshold: float | None) -> ScoredImage:
    inside = case.field_of_view > 0
    return ScoredImage(case.name, case.patient, scores[inside], case.truth[inside] > 0, threshold)
