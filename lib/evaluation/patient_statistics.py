"""How sure a score is, and whether two networks differ: patients are what is drawn, never pixels.

Pixels of one patient are alike, so that an interval over pixels would be far too narrow. Patients are
resampled whole with all their pixels, which are then pooled (the cluster bootstrap; Davison and Hinkley,
Bootstrap Methods and their Application, 1997, section 3.8). Intervals and tests speak of other patients,
not of networks trained anew: that variation is what several seeds show.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SCORES = ("auc_roc", "auc_pr", "f1", "accuracy", "sensitivity", "specificity")
"""Fields of `lib.evaluation.Scores`, in the order of the arrays below."""

BINS = 2**13
"""Bins of equal numbers of pixels, and as many again of equal numbers of positive ones, stand for ranks."""

RESAMPLES, SEED = 2000, 2025

FEWEST_PATIENTS = 6
"""With five, Wilcoxon's least p value, two-sided, is 2 / 2**5 = .0625."""


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The pixels of one image that are counted.

    Attributes:
        name: of the image.
        patient: whose it is.
        scores: (pixels,) float32.
        truth: (pixels,) bool.
        threshold: a pixel is positive where its score is at least this; None if there is none.
    """

    name: str
    patient: str
    scores: np.ndarray
    truth: np.ndarray
    threshold: float | None

    def confusion(self) -> np.ndarray:
        """(4,) float64: TN, FP, FN, TP; NaN without a threshold."""
        if self.threshold is None:
            return np.full(4, np.nan)
        return np.bincount(2 * self.truth + (self.scores >= self.threshold), minlength=4) * 1.0


@dataclass(frozen=True, eq=False)
class PatientCounts:
    """All that the scores of any resample of the patients depend on, so that it is a weighted sum.

    Attributes:
        patients: their names, sorted.
        confusion: (patients, 4) float64: TN, FP, FN, TP, each image at its own threshold.
        negatives: (patients, bins) float64: pixels of each rank of the scores, lowest first.
        positives: likewise.
    """

    patients: tuple[str, ...]
    confusion: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray


def count_patients(images: Sequence[ScoredImage]) -> PatientCounts:
    """Count each patient's pixels by rank of their score among those of all patients.

    Equal scores share a bin. Areas under curves are exact where there are at most `BINS` pixels; else
    scores within a bin count as equal, which changes an area by less than 1e-4.
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
    """Lower ends of the bins: narrow where pixels are, for AUC-ROC, and where positives are, for AUC-PR."""
    pixels = np.sort(np.concatenate([image.scores for image in images]))
    positives = np.sort(np.concatenate([image.scores[image.truth] for image in images]))
    thinned = [s[:: max(1, -(-s.size // BINS))] for s in (pixels, positives)]
    return np.unique(np.concatenate(thinned))


def pooled_scores(counts: PatientCounts, weights: np.ndarray) -> np.ndarray:
    """Scores of the pooled pixels of patients that are each taken `weights` times.

    Args:
        counts: of the patients.
        weights: (..., patients).

    Returns:
        (SCORES, ...) float64, NaN where a score is not defined.
    """
    tn, fp, fn, tp = np.moveaxis(weights @ counts.confusion, -1, 0)
    negatives, positives = weights @ counts.negatives, weights @ counts.positives
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    found = np.cumsum(positives[..., ::-1], axis=-1)
    marked = found + np.cumsum(negatives[..., ::-1], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = found / np.maximum(marked, 1)
        pairs = positives.sum(-1) * negatives.sum(-1)
        auc_roc = (positives * below).sum(-1) / pairs
        auc_pr = (positives[..., ::-1] * precision).sum(-1) / positives.sum(-1)
        auc_pr = np.where(pairs > 0, auc_pr, np.nan)
        f1, accuracy = 2 * tp / (2 * tp + fp + fn), (tp + tn) / (tn + fp + fn + tp)
        return np.stack([auc_roc, auc_pr, f1, accuracy, tp / (tp + fn), tn / (tn + fp)])


def patient_scores(seeds: Sequence[PatientCounts]) -> np.ndarray:
    """(SCORES, patients): of each patient alone, the mean over the seeds of training."""
    everyone = np.eye(len(seeds[0].patients))
    return np.mean([pooled_scores(counts, everyone) for counts in seeds], axis=0)


@dataclass(frozen=True, eq=False)
class Estimate:
    """Scores with what they come to on resampled patients.

    Attributes:
        values: (SCORES,) float64, NaN where not defined.
        resampled: (SCORES, resamples) float64; the n-th resample of the same patients is always the
            same, so that differences of two estimates are paired. None for fewer than two patients.
    """

    values: np.ndarray
    resampled: np.ndarray | None

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two networks on the same patients."""
        alone = self.resampled is None
        resampled = None if alone else self.resampled - other.resampled
        return Estimate(self.values - other.values, resampled)

    def interval(self) -> np.ndarray:
        """(SCORES, 2): ends of the 95 % percentile interval; NaN where there is none.

        Resamples in which a score is not defined (no patient with a positive pixel) are left out.
        """
        ends = np.full((len(SCORES), 2), np.nan)
        for score in np.flatnonzero(np.isfinite(self.values)) if self.resampled is not None else ():
            ends[score] = np.nanpercentile(self.resampled[score], [2.5, 97.5])
        return ends


def estimate(seeds: Sequence[PatientCounts]) -> Estimate:
    """Scores of the pooled pixels of all patients, the mean over the seeds of training.

    Args:
        seeds: for each seed the counts of the same patients.
    """
    number = len(seeds[0].patients)

    def of_resample(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        weights = (drawn[..., None] == np.arange(number)).sum(axis=-2)
        return np.mean([pooled_scores(counts, weights) for counts in seeds], axis=0)

    everyone = np.arange(number)
    if number < 2:
        return Estimate(of_resample(everyone), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # of scores that are NaN
        bootstrap = stats.bootstrap(
            (everyone,),
            of_resample,
            n_resamples=RESAMPLES,
            batch=16,  # bounds the memory: a batch has a histogram for every resample
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(SEED),
        )
    return Estimate(of_resample(everyone), bootstrap.bootstrap_distribution)


@dataclass(frozen=True)
class PairedTest:
    """Wilcoxon's signed-rank test of two networks on the same patients.

    Attributes:
        first: a network.
        second: another.
        score: what is compared, e.g. "f1".
        patients: how many have that score under both.
        median_difference: first - second; None without patients.
        p_value: two-sided; None below `FEWEST_PATIENTS`.
        p_holm: corrected for all pairs of networks that are compared by this score.
    """

    first: str
    second: str
    score: str
    patients: int
    median_difference: float | None
    p_value: float | None
    p_holm: float | None


def paired_tests(score: str, networks: Mapping[str, Mapping[str, float]]) -> list[PairedTest]:
    """Compare every two networks by one score of each patient.

    Args:
        score: its name.
        networks: for each network each patient's score; NaN is left out.
    """
    pairs, differences = list(itertools.combinations(networks, 2)), []
    for first, second in pairs:
        a, b = networks[first], networks[second]
        both = np.array([a[patient] - b[patient] for patient in a if patient in b])
        differences.append(both[np.isfinite(both)])
    p_values = [_wilcoxon(d) if d.size >= FEWEST_PATIENTS else None for d in differences]
    corrected = iter(holm([p for p in p_values if p is not None]))
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm, Scand. J. Statist. 6(2), 1979); in the order given."""
    order = np.argsort(p_values)
    sorted_values = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(sorted_values), 1)
    return corrected.tolist()
