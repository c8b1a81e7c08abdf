import json

import numpy as np
import pytest

from benchmarks.cnp_cross_validation import finished_runs, measures_of, report, trained_by
from lib.evaluation.measures.image_measures import MEASURES
from lib.evaluation.patient_statistics import Estimate
from lib.experiments.plan import read_plan
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.lib.experiments.test_pooled_folds import a_case, finish
from tests.lib.experiments.test_running import NO_VALIDATION, plan_file


def test_no_figures_of_a_plan_with_unfinished_runs(tmp_path):
    file = plan_file(tmp_path)
    head = f"data_set = FFA\nfolds = 3\nleft_out = 2\n{NO_VALIDATION}"
    file.write_text(file.read_text().replace("[settings]\n", head))
    plan = read_plan(file)
    for run in plan.runs:
        with pytest.raises(
            UserError, match=rf"of 3 runs are not finished, e\.g\. fold.*configurations/{plan.name}\.txt"
        ):
            finished_runs(plan)
        finish(run, [a_case(number, 2, 1) for number in run.folds or (1,)], 0.5)
    assert finished_runs(plan) == plan.runs


def test_the_devices_of_all_runs_are_named_once(tmp_path):
    file = plan_file(tmp_path)
    file.write_text(file.read_text().replace("[settings]\n", "seeds = 1 2 3\n[settings]\n"))
    runs = read_plan(file).runs
    for run, backend, device in zip(
        runs, ("jax", "tensorflow", "jax"), ("gpu:0", "cpu:0", "gpu:0"), strict=True
    ):
        run.experiment.folder.mkdir(parents=True)
        run.experiment.versions.write_text(json.dumps({"backend": backend, "device": device}))
    assert trained_by(runs) == "jax on gpu:0, tensorflow on cpu:0"


def test_measures_that_are_not_defined_are_null():
    values = np.full(len(MEASURES), np.nan)
    values[0] = 0.5
    found = measures_of(Estimate(values, np.tile(values[:, None] + [0, 0.25], 20)))
    assert (found["nsd_2_px"], found["nsd_2_px_interval"]) == (0.5, [0.5, 0.75])
    assert (found["presence_auc"], found["presence_auc_interval"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "gpu"), [("cnp_cross_validation", False), ("cnp_cross_validation_gpu", True)]
)
def test_the_page_is_made_from_the_figures(name, gpu):
    file = PROJECT / "docs" / "results" / f"{name}.json"
    assert file.with_suffix(".md").read_text(encoding="utf-8") == report(
        json.loads(file.read_text()), gpu=gpu
    )


def test_the_readme_states_the_figures():
    content = json.loads((PROJECT / "docs" / "results" / "cnp_cross_validation.json").read_text())
    low, high = content["difference_dice_interval"]
    difference = f"in Dice is {content['difference_dice']:+.3f} (95 % interval {low:+.3f} to {high:+.3f}"
    scores = " | ".join(f"{content[score]:.3f}".lstrip("0") for score in ("auc_roc", "auc_pr", "dice"))
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert difference in readme and f"| {content['date']} | {scores} |" in readme
