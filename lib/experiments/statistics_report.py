"""Statistics over patients: rows for results.json and .csv, and sections of results.md."""

from collections.abc import Iterator, Sequence

import numpy as np
from tabulate import tabulate

from lib.evaluation.measures.image_measures import MEASURES
from lib.evaluation.patient_statistics import (
    FEWEST_PATIENTS,
    RESAMPLES,
    SCORES,
    Estimate,
    PairedTest,
    PatientCounts,
    paired_tests,
    patient_scores,
)
from lib.evaluation.performance_report import ROWS
from lib.evaluation.pixel_scores import defined, format_score
from lib.experiments.pooled_folds import CHOSEN, DARKNESS, Variant

NETWORK, DIFFERENCE = "network", f"minus {DARKNESS}"
"""Names of the estimates beside those of the baselines."""

COMPARED_BY = ("f1", "auc_roc")
"""Scores of each patient that the paired tests compare."""


def _estimates(variant: Variant) -> dict[str, Estimate]:
    """All estimates of a variant, by name."""
    network = variant.network.estimate
    baselines = {name: pooled.estimate for name, pooled in variant.baselines.items()}
    return {NETWORK: network, **baselines, DIFFERENCE: network.minus(baselines[DARKNESS])}


def estimate_rows(variant: Variant) -> Iterator[dict]:
    """One row for each score of the network, of each baseline and of the difference; None: not defined."""
    estimates = [(SCORES, name, estimate) for name, estimate in _estimates(variant).items()]
    for names, name, estimate in [*estimates, (tuple(MEASURES), NETWORK, variant.measures)]:
        for score, value, ends in zip(names, estimate.values, estimate.interval(), strict=True):
            yield {
                "variant": variant.name,
                "estimate": name,
                "images": len(variant.images),
                "patients": len(variant.network.counts[0].patients),
                "seeds": len(variant.network.counts),
                "score": score,
                "value": defined(value),
                "interval_low": defined(ends[0]),
                "interval_high": defined(ends[1]),
            }


def compare(score: str, variants: Sequence[Variant]) -> list[PairedTest]:
    """Test every two networks on their common patients, if these have the same pixels.

    An ensemble of all seeds, and the choice by validation, are left out: they consist of the networks of
    other variants.
    """
    row = SCORES.index(score)
    values = {
        v.name: dict(zip(_pixels(v.network.counts[0]), patient_scores(v.network.counts)[row], strict=True))
        for v in variants
        if not v.ensemble_of_seeds and v.name != CHOSEN
    }
    return paired_tests(score, values)


def _pixels(counts: PatientCounts) -> list[str]:
    """Patient and numbers of pixels: in another data set, the same patient id may be another person."""
    numbers = zip(counts.patients, counts.positives.sum(1), counts.negatives.sum(1), strict=True)
    return [
        f"{patient}: {positive:.0f} of {positive + negative:.0f}" for patient, positive, negative in numbers
    ]


def statistics_text(variants: Sequence[Variant], tests: Sequence[PairedTest]) -> list[str]:
    """The lines of the sections of results.md with the statistics over patients."""
    titles = [ROWS[score] for score in SCORES]
    networks, baselines, differences = [], {}, []
    for variant in variants:
        about = [len(variant.images), len(variant.network.counts[0].patients)]
        for name, estimate in _estimates(variant).items():
            if name == NETWORK:
                networks.append([variant.name, *about, *_cells(estimate)])
            elif name == DIFFERENCE:
                differences.append([variant.name, *_cells(estimate, "+")])
            else:  # variants on the same images share their baselines
                row = [name, *about, *_cells(estimate)]
                baselines[tuple(row)] = row
    return [
        "",
        "## Pooled over all patients",
        "",
        "The FOV pixels of all images are pooled; each image is predicted by networks that were not trained "
        "on its patient. With several seeds of training the scores are means over the seeds.",
        *_about_cross_fitting(variants),
        f"In brackets: 95 % percentile interval of a patient-level bootstrap ({RESAMPLES} samples).",
        *_few_patients(variants),
        "",
        markdown_table(["", "images", "patients", *titles], [*networks, *baselines.values()]),
        "",
        f"## Difference to {DARKNESS}",
        "",
        "On the same bootstrap samples. An interval that contains 0 shows no difference.",
        "",
        markdown_table(["", *titles], differences),
        "",
        "## Boundaries, single areas and index",
        "",
        "At the threshold of each image; the index is the share of the field of view. The reference page of "
        "the scores has the definitions.",
        "",
        markdown_table(["", *(variant.name for variant in variants)], _measure_rows(variants)),
        *(_tests_section(tests) if tests else []),
    ]


def _measure_rows(variants: Sequence[Variant]) -> list[list[str]]:
    """One row for each measure that is defined for one of the variants."""
    columns = [_cells(variant.measures) for variant in variants]
    rows = [list(row) for row in zip(MEASURES.values(), *columns, strict=True)]
    return [row for row in rows if set(row[1:]) != {"n/a"}]


def _about_cross_fitting(variants: Sequence[Variant]) -> list[str]:
    if not any(variant.is_cross_fitted for variant in variants):
        return []
    lines = [
        "Each training left out two folds. The probability of a pixel is the mean over all networks that "
        "left out the fold of the image. The threshold of a fold is that with the best F1 on all other "
        "folds, predicted by the networks that left out both folds."
    ]
    if any(variant.ensemble_of_seeds for variant in variants):
        lines.append(
            "In an ensemble of all seeds, the mean is over the networks of all seeds; the paired tests leave "
            "it out."
        )
    return lines


def _few_patients(variants: Sequence[Variant]) -> list[str]:
    fewest = min(len(variant.network.counts[0].patients) for variant in variants)
    if fewest >= FEWEST_PATIENTS:
        return []
    if fewest == 1:
        return ["**One patient has no interval.** Use a cross-validation (`folds`)."]
    return [
        f"**A bootstrap of {fewest} patients has few different samples: do not rely on these intervals.** "
        "Use a cross-validation (`folds`)."
    ]


def _tests_section(tests: Sequence[PairedTest]) -> list[str]:
    few = f"n/a: fewer than {FEWEST_PATIENTS} patients"
    if all(test.p_value is None for test in tests):
        return ["", "## Paired tests", "", few]
    rows = [
        [
            f"{test.first} − {test.second}",
            f"{ROWS[test.score]} of a patient",
            test.patients,
            format_score(test.median_difference, "+.4f"),
            *(few if p is None else _p_value(p) for p in (test.p_value, test.p_holm)),
        ]
        for test in tests
    ]
    columns = ["networks", "score", "patients", "median difference", "p", "p, Holm"]
    return [
        "",
        "## Paired tests",
        "",
        "Wilcoxon signed-rank test, two-sided, on the same patients; Holm's correction over all pairs of one "
        "score.",
        "",
        markdown_table(columns, rows),
    ]


def _p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _cells(estimate: Estimate, sign: str = "") -> list[str]:
    """Each score with the ends of its interval, e.g. "0.9000 [0.8500, 0.9300]"."""
    cells = []
    for value, ends in zip(estimate.values, estimate.interval(), strict=True):
        interval = ", ".join(f"{end:{sign}.4f}" for end in ends) if np.isfinite(ends).all() else "n/a"
        cells.append(f"{value:{sign}.4f} [{interval}]" if np.isfinite(value) else "n/a")
    return cells


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of results.md; numbers are written as they are given."""
    rows = [[cell.replace("|", "\\|") if isinstance(cell, str) else cell for cell in row] for row in rows]
    return tabulate(rows, columns, "github", disable_numparse=True)
