import pytest

from benchmarks.paper_networks import TABLES, PaperTable, finished_seeds, rank_correlation
from lib.experiments.plan import read_plan
from lib.runtime.paths import PROJECT
from tests.lib.experiments.test_pooled_folds import a_case, finish
from tests.lib.experiments.test_running import NO_VALIDATION, plan_file


def test_the_rows_of_the_tables_are_the_variants_of_their_plans():
    for table in TABLES:
        plan = read_plan(PROJECT / "configurations" / f"{table.plan}.txt")
        assert {run.variant for run in plan.runs} == set(table.rows)


def test_only_seeds_with_all_runs_count(tmp_path):
    file = plan_file(tmp_path)
    file.write_text(file.read_text().replace("[settings]\n", f"seeds = 1 2\n{NO_VALIDATION}"))
    plan = read_plan(file)
    assert finished_seeds(plan) == {}
    for run in plan.runs:
        if run.seed == 2:
            finish(run, [a_case(1, 2, 1)], 0.5)
    assert {seed: {run.seed for run in of.runs} for seed, of in finished_seeds(plan).items()} == {"2": {2}}


def test_rank_correlation_of_three_networks_by_hand():
    table = PaperTable(
        "", "", {name: (name, (0, 0, 0, f1)) for name, f1 in zip("abc", (40, 50, 60), strict=True)}
    )
    figures = {"a": {"f1": 0.2}, "b": {"f1": 0.6}, "c": {"f1": 0.4}}
    # Two of three pairs have the same order: tau = (2 - 1) / 3, and no order has a smaller size of tau.
    assert rank_correlation(table, figures, "f1") == {"tau": pytest.approx(1 / 3), "p": pytest.approx(1)}
