"""The predictions of all folds of a plan, pooled (out-of-fold predictions).

Each image is predicted by a network that was not trained on its patient.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.datasets.split_file import read_split
from lib.evaluation.bland_altman_and_calibration import Reliability, reliability
from lib.evaluation.measures.image_measures import ImageMeasures, measure_image, summarise
from lib.evaluation.patient_statistics import (
    SCORES,
    Estimate,
    PatientCounts,
    ScoredImage,
    bootstrap_patients,
    count_patients,
    estimate,
)
from lib.evaluation.performance_report import read_performances
from lib.evaluation.pixel_scores import choose_threshold
from lib.evaluation.pooled_pixels import PooledPixels
from lib.evaluation.predicted_images import read_predictions
from lib.evaluation.scoring import Evaluation, PredictedImage, blurred_darkness
from lib.experiments.plan import Plan, Run
from lib.runtime.errors import UserError

CHOSEN = "chosen by validation, fold by fold"
DARKNESS, BACKGROUND, HUMAN = "blurred darkness", "all background", "second observer"


@dataclass(frozen=True, eq=False)
class Pooled:
    """The pooled pixels of all patients.

    Attributes:
        counts: the pixel counts of each patient, one for each seed; all of the same patients.
        estimate: the scores of the pooled pixels.
    """

    counts: tuple[PatientCounts, ...]
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class Variant:
    """One variant of a plan on the images of all its folds.

    Attributes:
        name: the values that [vary] gives it, e.g. "unet".
        images: name of each image, sorted.
        confusion: (seeds, images, 4) float64: TN, FP, FN, TP of FOV pixels.
        thresholds: (seeds, images) float64: the threshold of each image.
        reliability: calibration of the probabilities, all seeds pooled.
        network: pixels and scores of the network.
        measures: the `MEASURES` of the network, (MEASURES,), the mean over the seeds.
        baselines: for each baseline its pixels and scores on the same patients.
        runs: its runs, finished or not; those of the plan that have this variant.
        ensemble_of_seeds: whether the networks of all seeds predict together.
    """

    name: str
    images: tuple[str, ...]
    confusion: np.ndarray
    thresholds: np.ndarray
    reliability: Reliability
    network: Pooled
    measures: Estimate
    baselines: dict[str, Pooled]
    runs: tuple[Run, ...]
    ensemble_of_seeds: bool = False

    @property
    def is_cross_fitted(self) -> bool:
        """Whether each of its trainings leaves out two folds (`cross_fitted`)."""
        return len(self.runs[0].folds) > 1


def read_variants(plan: Plan) -> list[Variant]:
    """The variants for which at least one patient was predicted with every seed, from the finished runs.

    With two folds left out and several seeds, each variant also has the ensemble of all seeds, as soon as all
    its runs are finished.
    """
    found = []
    for name in dict.fromkeys(run.variant for run in plan.runs):
        runs = [run for run in plan.runs if run.variant == name]
        if len(runs[0].folds) < 2:
            found.append(_read_variant(name, runs))
            continue
        found.append(_read_cross_fitted(name, runs, together=False))
        if len({run.seed for run in runs}) > 1 and all(run.is_tested for run in runs):
            found.append(_read_cross_fitted(f"{name}, ensemble of all seeds", runs, together=True))
    return [variant for variant in found if variant]


def best_in_each_fold(plan: Plan) -> list[Variant]:
    """One more variant for a cross-validation of several: in each fold that with the best validation AUC.

    It scores the choice among the variants itself, made without the test patients (nested
    cross-validation; Varma and Simon, BMC Bioinformatics 7:91, 2006). A fold counts as soon as the runs of
    all variants are finished. Empty if each training leaves out two folds: then several trainings test an
    image, and no image is left for validation. Empty also if the variants differ in the images of a fold, or
    in their truth, or if no patients of their own validate (`validation` is not `images`).
    """
    if any(
        len(run.folds) > 1 or run.configuration.training_settings.validation != "images" for run in plan.runs
    ):
        return []
    scores = {
        run: _validation_auc(run, history)
        for run in plan.runs
        if run.folds and run.is_tested and (history := run.experiment.history()) and "val_auc" in history[0]
    }
    tested = {(run.folds, _tested_truth(run)) for run in scores}
    if len(tested) > len({folds for folds, _ in tested}):
        return []
    variants = len({run.variant for run in plan.runs})
    groups = defaultdict(list)
    for run in scores:
        groups[run.seed, run.folds].append(run)
    best = [max(group, key=lambda run: scores[run]) for group in groups.values() if len(group) == variants]
    variant = _read_variant(CHOSEN, best) if best and variants > 1 else None
    return [variant] if variant else []


def _validation_auc(run: Run, history: Sequence[Mapping[str, float]]) -> float:
    """The validation AUC of the weights that were tested: those of the last epoch, or of the best one."""
    if run.configuration.testing_settings.best_last == "last":
        return history[-1]["val_auc"]
    if run.configuration.training_settings.best_by == "loss":
        return min(history, key=lambda row: row["val_loss"])["val_auc"]
    return max(row["val_auc"] for row in history)


def _tested_truth(run: Run) -> tuple[tuple[str, float | None], ...]:
    """The name of each test image, with the share of its field of view that the truth covers."""
    split = read_split(run.experiment.split, "the split of a training")
    return tuple((member.name, member.truth_fraction) for member in split["test"])


def read_tested_images(runs: Iterable[Run]) -> Iterator[tuple[Evaluation, PredictedImage]]:
    """Each image that the runs have tested, with the scores of its run."""
    for run in runs:
        if run.is_tested:
            evaluation = read_performances(run.results.performances)
            yield from ((evaluation, image) for image in read_predictions(run.results.predictions))


def _read_variant(name: str, runs: Sequence[Run]) -> Variant | None:
    seeds: list[list[ScoredImage]] = []
    baselines = defaultdict(list)
    for seed in dict.fromkeys(run.seed for run in runs):
        images = []
        for tested, case in read_tested_images(run for run in runs if run.seed == seed):
            images.append(_scored(case, case.probability, tested.threshold))
            if not seeds:  # the baselines are the same for every seed
                for baseline, image in _baselines(tested, case):
                    baselines[baseline].append(image)
        names = Counter(image.name for image in images)
        if repeated := sorted(image for image, number in names.items() if number > 1):
            raise UserError(
                f"{name}: the folds do not fit each other, since several of them test {', '.join(repeated)}; "
                "prepare all folds with one version of this program"
            )
        seeds.append(images)
    return _variant(name, seeds, baselines, runs)


def _read_cross_fitted(name: str, runs: Sequence[Run], *, together: bool) -> Variant | None:
    """The variant of runs that each leave out two folds (`cross_fitted`).

    Args:
        name: name of the variant.
        runs: its runs.
        together: one ensemble of all seeds instead of an ensemble for each seed.
    """
    by_seed = [[run for run in runs if run.seed == seed] for seed in dict.fromkeys(r.seed for r in runs)]
    seeds: list[list[ScoredImage]] = []
    baselines = defaultdict(list)
    for chosen in [runs] if together else by_seed:
        images = cross_fitted(chosen, lambda case: case.probability)
        if not seeds:
            darkness = cross_fitted(chosen, lambda case: blurred_darkness(case.original))
            baselines[DARKNESS] = darkness
            baselines[BACKGROUND] = [
                replace(image, scores=np.zeros_like(image.scores), threshold=0.5) for image in darkness
            ]
        seeds.append(images)
    variant = _variant(name, seeds, baselines, runs)
    return variant and replace(variant, ensemble_of_seeds=together)


def cross_fitted(runs: Sequence[Run], scores_of: Callable[[PredictedImage], np.ndarray]) -> list[ScoredImage]:
    """Every image with the mean of the scores of all networks that were not trained on its fold.

    Each of the runs leaves out two folds, k and l, and predicts both. The threshold for the images of fold k
    is that with the best F1 on the other folds: for fold l, those scores count that are of networks which
    left out k and l. So neither the networks nor the threshold have seen fold k (nested cross-validation; as
    cross-fitting in Chernozhukov et al., Econometrics Journal 21(1), 2018).

    Args:
        runs: runs of one variant, of one seed or more.
        scores_of: gives the scores of an image, (H, W) float32 in [0, 1].

    Returns:
        The images, sorted by name, of each fold for which every combination with another fold is finished
        with every seed of the runs.
    """
    plan = runs[0].configuration.preparation.fold
    assert plan is not None  # a run that leaves out folds has them
    seeds = {run.seed for run in runs}
    finished = {(run.folds, run.seed) for run in runs if run.is_tested}
    means = _mean_scores(runs, scores_of)
    images: list[ScoredImage] = []
    for fold in range(1, plan.number + 1):
        pairs = [(min(fold, k), max(fold, k)) for k in range(1, plan.number + 1) if k != fold]
        if all((pair, seed) in finished for pair in pairs for seed in seeds):
            try:
                images += _of_fold([means[pair] for pair in pairs])
            except UserError:
                print(
                    f"warning: {runs[0].variant}: the images of fold {fold} are left out: no image of the "
                    "other folds has a positive pixel in its field of view, so they give no threshold"
                )
    return sorted(images, key=lambda image: image.name)


def _mean_scores(
    runs: Sequence[Run], scores_of: Callable[[PredictedImage], np.ndarray]
) -> dict[tuple[int, ...], dict[str, ScoredImage]]:
    """For every two folds the images that they test, by name, with the mean scores over the seeds."""
    cases: dict[str, PredictedImage] = {}
    scores: dict[tuple[int, ...], dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for _, case in read_tested_images([run]):
            cases[case.name] = case
            scores[run.folds][case.name].append(scores_of(case))
    return {
        folds: {
            name: _scored(cases[name], np.asarray(np.mean(several, axis=0)), None)
            for name, several in by_name.items()
        }
        for folds, by_name in scores.items()
    }


def _of_fold(tested: Sequence[Mapping[str, ScoredImage]]) -> list[ScoredImage]:
    """The images of one fold with the mean of their scores, and with the threshold from the other folds.

    Args:
        tested: for each other fold, the images that the two folds test together, by name.
    """
    names = set.intersection(*map(set, tested))  # those of the other folds are tested once
    pool = PooledPixels()
    for images in tested:
        for name in images.keys() - names:
            pool.add(images[name].scores, images[name].truth)
    threshold = choose_threshold(pool)
    return [
        replace(
            tested[0][name],
            scores=np.asarray(np.mean([images[name].scores for images in tested], axis=0)),
            threshold=threshold,
        )
        for name in names
    ]


def _variant(
    name: str, seeds: list[list[ScoredImage]], baselines: Mapping[str, list[ScoredImage]], runs: Sequence[Run]
) -> Variant | None:
    """The variant of the patients that every seed has; None if there are none."""
    patients = set.intersection(*({image.patient for image in images} for images in seeds))
    if not patients:
        return None
    seeds = [_of_patients(images, patients) for images in seeds]
    return Variant(
        name,
        tuple(image.name for image in seeds[0]),
        np.array([[image.confusion() for image in images] for images in seeds]),
        np.array([[image.threshold for image in images] for images in seeds], float),
        reliability([(image.scores, image.truth) for images in seeds for image in images]),
        _pooled(seeds),
        estimate_measures(seeds, runs[0].configuration.data_attributes.structure),
        {
            baseline: _pooled([chosen], has_areas=baseline != HUMAN)
            for baseline, images in baselines.items()
            # Leaves out a second observer who has not drawn every image.
            if len(chosen := _of_patients(images, patients)) == len(seeds[0])
        },
        tuple(runs),
    )


def _pooled(seeds: Sequence[Sequence[ScoredImage]], *, has_areas: bool = True) -> Pooled:
    counts = tuple(count_patients(images) for images in seeds)
    estimated = estimate(counts)
    if not has_areas:  # a mask gives one point of a curve
        estimated.values[[SCORES.index("auc_roc"), SCORES.index("auc_pr")]] = np.nan
    return Pooled(counts, estimated)


def estimate_measures(seeds: Sequence[Sequence[ScoredImage]], structure: str) -> Estimate:
    """The `MEASURES` of the images, the mean over the seeds, which have the same images in the same order."""
    measures = [[_measures(image, structure) for image in images] for images in seeds]
    patients = sorted({image.patient for image in seeds[0]})
    rows = [patients.index(image.patient) for image in seeds[0]]
    return bootstrap_patients(
        len(patients),
        lambda weights: np.mean([summarise(images, weights[..., rows]) for images in measures], axis=0),
    )


def _measures(image: ScoredImage, structure: str) -> ImageMeasures:
    assert image.field_of_view is not None and image.threshold is not None  # images of networks have both
    return measure_image(image.scores, image.truth, image.field_of_view, image.threshold, structure)


def _of_patients(images: Sequence[ScoredImage], patients: set[str]) -> list[ScoredImage]:
    return sorted((i for i in images if i.patient in patients), key=lambda i: i.name)


def _baselines(tested: Evaluation, case: PredictedImage) -> Iterator[tuple[str, ScoredImage]]:
    threshold = tested.blurred_darkness.threshold
    yield DARKNESS, _scored(case, blurred_darkness(case.original), threshold)
    yield BACKGROUND, _scored(case, np.zeros(case.truth.shape, np.float32), 0.5)
    if case.second_observer is not None:
        yield HUMAN, _scored(case, case.second_observer.astype(np.float32), 0.5)


def _scored(case: PredictedImage, scores: np.ndarray, threshold: float | None) -> ScoredImage:
    inside = case.field_of_view > 0
    return ScoredImage(case.name, case.patient, scores[inside], case.truth[inside] > 0, threshold, inside)
