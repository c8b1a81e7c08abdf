"""Patient-level bootstrap of scores, and paired tests of networks.

Pixels of one patient are not independent: an interval over pixels would be far too narrow. Each bootstrap
sample draws whole patients and pools all their pixels (cluster bootstrap; Davison and Hinkley, Bootstrap
Methods and their Application, 1997, section 3.8). Intervals and tests describe the variation between
patients; several seeds show the variation between trainings.
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lib.evaluation.pixel_scores import f1_score

SCORES = ("auc_roc", "auc_pr", "f1", "accuracy", "sensitivity", "specificity")
"""Fields of `lib.evaluation.pixel_scores.Scores`, in the order of the arrays below."""

BINS = 2**13
"""Bins of scores with equal numbers of pixels; as many more with equal numbers of positive pixels."""

RESAMPLES, SEED = 2000, 2025

FEWEST_PATIENTS = 6
"""With five patients, the smallest two-sided p value of Wilcoxon's test is 2 / 2**5 = .0625."""


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The FOV pixels of one image.

    Attributes:
        name: name of the image.
        patient: name of the patient.
        scores: (pixels,) float32.
        truth: (pixels,) bool.
        threshold: a pixel is predicted positive if its score is at least this; None if there is none.
        field_of_view: (H, W) bool; only measures of areas and boundaries need it.
    """

    name: str
    patient: str
    scores: np.ndarray
    truth: np.ndarray
    threshold: float | None
    field_of_view: np.ndarray | None = None

    def confusion(self) -> np.ndarray:
        """(4,) float64: TN, FP, FN, TP; NaN without a threshold."""
        if self.threshold is None:
            return np.full(4, np.nan)
        # sklearn.metrics.confusion_matrix takes 30 times as long (docs/decisions/0024).
        return np.bincount(2 * self.truth + (self.scores >= self.threshold), minlength=4) * 1.0


@dataclass(frozen=True, eq=False)
class PatientCounts:
    """Counts of each patient; the scores of a bootstrap sample follow from a weighted sum of them.

    Attributes:
        patients: names, sorted.
        confusion: (patients, 4) float64: TN, FP, FN, TP, each image at its own threshold.
        negatives: (patients, bins) float64: negative pixels in each bin of the scores, lowest first.
        positives: (patients, bins) float64: positive pixels likewise.
    """

    patients: tuple[str, ...]
    confusion: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray


def count_patients(images: Sequence[ScoredImage]) -> PatientCounts:
    """Count the pixels of each patient in bins that are the same for all patients.

    Areas under curves are exact for at most `BINS` pixels; otherwise scores in one bin count as equal. This
    changes an area over all patients by less than 1e-4, and that of a patient with few positive pixels by
    more.
    """
    patients = tuple(sorted({image.patient for image in images}))
    edges = _edges(images)
    confusion = np.zeros((len(patients), 4))
    negatives, positives = np.zeros((2, len(patients), edges.size))
    for image in images:
        row = patients.index(image.patient)
        bins = np.searchsorted(edges, image.scores, side="right") - 1
        confusion[row] += image.confusion()
        negatives[row] += np.bincount(bins[~image.truth], minlength=edges.size)
        positives[row] += np.bincount(bins[image.truth], minlength=edges.size)
    return PatientCounts(patients, confusion, negatives, positives)


def _edges(images: Sequence[ScoredImage]) -> np.ndarray:
    """Lower ends of the bins: narrow where many pixels (AUC-ROC) or many positive pixels (AUC-PR) are."""
    pixels = np.sort(np.concatenate([image.scores for image in images]))
    positives = np.sort(np.concatenate([image.scores[image.truth] for image in images]))
    thinned = [s[:: max(1, -(-s.size // BINS))] for s in (pixels, positives)]
    return np.unique(np.concatenate(thinned))


def pooled_scores(counts: PatientCounts, weights: np.ndarray) -> np.ndarray:
    """Scores of the pooled pixels of patients.

    Args:
        counts: counts of the patients.
        weights: (..., patients): how often each patient is in the sample.

    Returns:
        (SCORES, ...) float64, NaN where a score is not defined.
    """
    tn, fp, fn, tp = np.moveaxis(weights @ counts.confusion, -1, 0)
    negatives, positives = weights @ counts.negatives, weights @ counts.positives
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    found = np.cumsum(positives[..., ::-1], axis=-1)
    predicted = found + np.cumsum(negatives[..., ::-1], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = found / np.maximum(predicted, 1)
        pairs = positives.sum(-1) * negatives.sum(-1)
        auc_roc = (positives * below).sum(-1) / pairs
        auc_pr = (positives[..., ::-1] * precision).sum(-1) / positives.sum(-1)
        auc_pr = np.where(pairs > 0, auc_pr, np.nan)
        accuracy, sensitivity = (tp + tn) / (tn + fp + fn + tp), tp / (tp + fn)
        f1, specificity = f1_score(tp, fp, fn), tn / (tn + fp)
        return np.stack([auc_roc, auc_pr, f1, accuracy, sensitivity, specificity])


def patient_scores(seeds: Sequence[PatientCounts]) -> np.ndarray:
    """(SCORES, patients): scores of each patient, the mean over the seeds."""
    everyone = np.eye(len(seeds[0].patients))
    return np.mean([pooled_scores(counts, everyone) for counts in seeds], axis=0)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Scores of all patients and of bootstrap samples of patients.

    Attributes:
        values: (scores,) float64, in the order of `SCORES` or `MEASURES`, NaN where not defined.
        resampled: (scores, resamples) float64; the n-th sample draws the same patients in each estimate, so
            that differences of two estimates are paired. None for fewer than two patients.
    """

    values: np.ndarray
    resampled: np.ndarray | None

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two networks on the same patients."""
        difference = None
        if self.resampled is not None and other.resampled is not None:
            difference = self.resampled - other.resampled
        return Estimate(self.values - other.values, difference)

    def interval(self) -> np.ndarray:
        """(scores, 2): ends of the 95 % percentile interval; NaN where there is none.

        Bootstrap samples in which a score is not defined (no positive pixel) are left out.
        """
        ends = np.full((self.values.size, 2), np.nan)
        if self.resampled is not None:
            for score in np.flatnonzero(np.isfinite(self.values)):
                ends[score] = np.nanpercentile(self.resampled[score], [2.5, 97.5])
        return ends


def estimate(seeds: Sequence[PatientCounts]) -> Estimate:
    """Scores of the pooled pixels of all patients, the mean over the seeds, which have the same patients."""
    return bootstrap_patients(
        len(seeds[0].patients),
        lambda weights: np.mean([pooled_scores(counts, weights) for counts in seeds], axis=0),
    )


def bootstrap_patients(number: int, scores: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """Scores of all patients and of `RESAMPLES` samples of them, the same samples in each call.

    Args:
        number: number of patients.
        scores: takes (..., patients) int64, how often each patient is in the sample; gives (scores, ...).
    """

    def score_sample(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return scores((drawn[..., None] == np.arange(number)).sum(axis=-2))

    everyone = np.arange(number)
    if number < 2:
        return Estimate(score_sample(everyone), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # scores that are NaN
        bootstrap = stats.bootstrap(
            (everyone,),
            score_sample,
            n_resamples=RESAMPLES,
            batch=16,  # limits the memory: a batch has a histogram for each sample
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(SEED),
        )
    return Estimate(score_sample(everyone), bootstrap.bootstrap_distribution)


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon's signed-rank test of two networks on the same patients.

    Attributes:
        first: name of a network.
        second: name of another network.
        score: name of the compared score, e.g. "f1".
        patients: number of patients with a defined score for both networks.
        median_difference: first - second; None without patients.
        p_value: two-sided; None below `FEWEST_PATIENTS`.
        p_holm: p value after Holm's correction for all pairs (Holm, Scand. J. Statist. 6(2), 1979).
    """

    first: str
    second: str
    score: str
    patients: int
    median_difference: float | None
    p_value: float | None
    p_holm: float | None


def paired_tests(score: str, networks: Mapping[str, Mapping[str, float]]) -> list[PairedTest]:
    """Compare every two networks by one score, which `networks` holds for each patient; NaN is left out."""
    pairs, differences = list(itertools.combinations(networks, 2)), []
    for first, second in pairs:
        a, b = networks[first], networks[second]
        both = np.array([a[patient] - b[patient] for patient in a if patient in b])
        differences.append(both[np.isfinite(both)])
    p_values = [_wilcoxon(d) if d.size >= FEWEST_PATIENTS else None for d in differences]
    tested = [p for p in p_values if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1].tolist() if tested else ())
    return [
        PairedTest(
            *pair,
            score,
            difference.size,
            float(np.median(difference)) if difference.size else None,
            p_value,
            None if p_value is None else next(corrected),
        )
        for pair, difference, p_value in zip(pairs, differences, p_values, strict=True)
    ]


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
