import pytest

from benchmarks.cnp_cross_validation import finished_runs
from lib.experiments.plan import read_plan
from lib.runtime.errors import UserError
from tests.lib.experiments.test_running import NO_VALIDATION, plan_file


def test_no_figures_of_a_plan_with_unfinished_runs(tmp_path):
    file = plan_file(tmp_path)
    head = f"data_set = FFA\nfolds = 3\nleft_out = 2\n{NO_VALIDATION}"
    file.write_text(file.read_text().replace("[settings]\n", head))
    plan = read_plan(file)
    for run in plan.runs:
        with pytest.raises(UserError, match=r"of 3 runs are not finished, e\.g\. fold"):
            finished_runs(plan)
        run.results.folder.mkdir(parents=True)
        run.results.performances.touch()
        run.results.predictions.touch()
    assert finished_runs(plan) == plan.runs
