"""Statistics over patients as rows for programs and as sections of results.md."""

from collections.abc import Iterator, Sequence

import numpy as np

from lib.evaluation.patient_statistics import (
    FEWEST_PATIENTS,
    RESAMPLES,
    SCORES,
    Estimate,
    PairedTest,
    paired_tests,
    patient_scores,
)
from lib.evaluation.performance_report import ROWS
from lib.experiments.pooled_folds import DARKNESS, Variant

NETWORK, DIFFERENCE = "network", f"minus {DARKNESS}"
"""What is estimated, beside the baselines."""

COMPARED_BY = ("f1", "auc_roc")
"""Scores of each patient by which networks are compared."""


def _estimates(variant: Variant) -> dict[str, Estimate]:
    """What stands in the tables of a variant, by name."""
    network = variant.network.estimate
    baselines = {name: pooled.estimate for name, pooled in variant.baselines.items()}
    return {NETWORK: network, **baselines, DIFFERENCE: network.minus(baselines[DARKNESS])}


def estimate_rows(variant: Variant) -> Iterator[dict]:
    """A row for each score of the network, of its baselines, and of the difference; None: not defined."""
    for name, estimate in _estimates(variant).items():
        for score, value, ends in zip(SCORES, estimate.values, estimate.interval(), strict=True):
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
    """Test every two networks on their common patients."""
    row = SCORES.index(score)
    values = {
        v.name: dict(
            zip(v.network.counts[0].patients, patient_scores(v.network.counts)[row], strict=True)
        )
        for v in variants
    }
    return paired_tests(score, values)


def statistics_text(variants: Sequence[Variant], tests: Sequence[PairedTest]) -> list[str]:
    """The sections of results.md that speak of patients."""
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
        "FOV pixels of all images, each predicted by a network that has not seen its patient, pooled; "
        "under several seeds of training the mean over them.",
        f"In brackets the 95 % percentile interval of {RESAMPLES} bootstrap samples of whole patients.",
        *_few_patients(variants),
        "",
        *markdown_table(["", "images", "patients", *titles], [*networks, *baselines.values()]),
        "",
        f"## Difference to {DARKNESS}",
        "",
        "On the same bootstrap samples. Where the interval holds 0, no difference has been shown.",
        "",
        *markdown_table(["", *titles], differences),
        *(_tests_section(tests) if tests else []),
    ]


def _few_patients(variants: Sequence[Variant]) -> list[str]:
    fewest = min(len(variant.network.counts[0].patients) for variant in variants)
    if fewest >= FEWEST_PATIENTS:
        return []
    return [
        f"**Of {fewest} patients only a handful of different samples can be drawn: these intervals are no "
        "guide.** Cross-validate (`folds`)."
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
            _signed(test.median_difference),
            few if test.p_value is None else f"{test.p_value:.4f}",
            few if test.p_holm is None else f"{test.p_holm:.4f}",
        ]
        for test in tests
    ]
    columns = ["networks", "score", "patients", "median difference", "p", "p, Holm"]
    return [
        "",
        "## Paired tests",
        "",
        "Wilcoxon's signed-rank test, two-sided, on the same patients; Holm's correction for all pairs "
        "that are compared by one score.",
        "",
        *markdown_table(columns, rows),
    ]


def _cells(estimate: Estimate, sign: str = "") -> list[str]:
    return [
        _interval(value, ends, sign)
        for value, ends in zip(estimate.values, estimate.interval(), strict=True)
    ]


def _interval(value: float, ends: np.ndarray, sign: str) -> str:
    if not np.isfinite(value):
        return "n/a"
    brackets = ", ".join(f"{end:{sign}.4f}" for end in ends) if np.isfinite(ends).all() else "n/a"
    return f"{value:{sign}.4f} [{brackets}]"


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.4f}"


def defined(value: float) -> float | None:
    """None for NaN."""
    return float(value) if np.isfinite(value) else None


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]
