import json
import shutil
from collections import defaultdict

import pytest

from lib.experiments import running
from lib.experiments.plan import read_plan
from lib.experiments.running import run_plan
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.conftest import tiny_settings
from tests.lib.configuration.test_reading import PLANS

NO_VALIDATION = """[settings]
training settings.validation = none
testing settings.threshold = 0.5
testing settings.min_area_px = 0
"""


def plan_file(folder, extra=""):
    settings = "\n".join(
        s.replace("=", " = ", 1)
        for s in tiny_settings(folder)
        if not s.startswith(("experiment name.name", "training settings.N_epochs"))
        and f"{s.partition('=')[0]} = " not in extra.partition("[vary]")[2]
    )
    file = folder / "plan.txt"
    file.write_text(
        f"[experiments]\nname = plan\nbase = {PROJECT / 'configurations' / 'demo.txt'}\n"
        f"[settings]\n{settings}\ntraining settings.N_epochs = 1\n{extra}",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize("file", PLANS, ids=lambda f: f.name)
def test_shipped_plans_are_read_with_all_their_runs(file):
    plan = read_plan(file)
    for run in plan.runs:
        assert run.configuration.experiment_name.name == run.name
    assert len({run.name for run in plan.runs}) == len(plan.runs) >= 2


def test_every_combination_is_run_in_every_fold(tmp_path):
    vary = "[vary]\nmodel.architecture = unet | resunet\ntraining settings.seed = 1 | 2\n"
    file = plan_file(tmp_path, vary)
    text = file.read_text().replace("[settings]", "data_set = FFA\nfolds = 3\n[settings]")
    file.write_text(text)
    runs = read_plan(file).runs
    assert [run.name for run in runs][:4] == [
        "architecture-unet_seed-1_fold01",
        "architecture-unet_seed-1_fold02",
        "architecture-unet_seed-1_fold03",
        "architecture-unet_seed-2_fold01",
    ]
    assert len(runs) == 12
    last = runs[-1].configuration
    assert (last.model.architecture, last.training_settings.seed) == ("resunet", 2)
    assert last.preparation.fold == ((3,), 3)


def test_every_two_folds_are_left_out_once(tmp_path):
    file = plan_file(tmp_path, "[vary]\nmodel.architecture = unet | resunet\n")
    head = f"data_set = FFA\nfolds = 4\nleft_out = 2\n{NO_VALIDATION}"
    file.write_text(file.read_text().replace("[settings]\n", head))
    runs = read_plan(file).runs
    assert [run.folds for run in runs][:6] == [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    assert len(runs) == 12 and runs[1].name == "architecture-unet_fold01-03"
    assert runs[1].configuration.preparation.fold == ((1, 3), 4)
    assert len({run.configuration.data_paths.path_local for run in runs}) == 6
    file.write_text(file.read_text().replace("left_out = 2", "left_out = 3"))
    with pytest.raises(UserError, match=r"left_out = 3: expected 1 or 2 folds"):
        read_plan(file)


def test_variants_with_other_negatives_or_labels_prepare_their_folds_in_other_folders(tmp_path):
    def folders(vary, more=""):
        file = plan_file(tmp_path, f"{more}[vary]\n{vary}")
        head = "data_set = FFA\nfolds = 3\nseeds = 1 2\n[settings]"
        file.write_text(file.read_text().replace("[settings]", head))
        found = defaultdict(set)
        for run in read_plan(file).runs:
            found[run.variant].add(run.configuration.data_paths.path_local)
        return found

    found = folders(f"data paths.path_negatives = | {tmp_path / 'a'} | {tmp_path / 'b'}\n")
    assert [len(of_variant) for of_variant in found.values()] == [3, 3, 3]  # one for each fold
    assert len(set.union(*found.values())) == 9
    assert {f.name for f in found["plan"]} == {f"fold{k}of3_seed2025_stratified" for k in (1, 2, 3)}
    found = folders("preparation.auxiliary_labels = BRVO | DR | BRVO, DR\n", "preparation.ignore_labels =\n")
    assert len(set.union(*found.values())) == 9
    negatives = f"data paths.path_negatives = {tmp_path / 'a'}\n"
    found = folders("training settings.negatives_share = 0.1 | 0.2\n", negatives)
    assert found["0.1"] == found["0.2"]  # the same prepared images
    seeds = folders("preparation.split_seed = 1 | 2\n")
    assert {f.name for f in seeds["2"]} == {f"fold{k}of3_seed2_stratified" for k in (1, 2, 3)}
    for varied in (
        "preparation.labels = NP | CNP",
        "preparation.info_banner = none | auto",
        f"data paths.path_images = {tmp_path / 'a'} | {tmp_path / 'b'}",
    ):
        assert len(set.union(*folders(f"{varied}\n").values())) == 6


def test_a_file_that_varies_is_called_by_its_name(tmp_path):
    vary = "[vary]\ntraining settings.initial_weights = none | a/b/c_best.weights.h5\n"
    plan = read_plan(plan_file(tmp_path, vary))
    assert [run.variant for run in plan.runs] == ["none", "c_best"]
    assert [run.name for run in plan.runs] == ["initial_weights-none", "initial_weights-c_best"]
    last = plan.runs[1].configuration
    assert last.training_settings.initial_weights == PROJECT / "a/b/c_best.weights.h5"


def test_every_run_is_repeated_under_every_seed(tmp_path):
    file = plan_file(tmp_path, "[vary]\nmodel.architecture = unet | resunet\n")
    head = "data_set = FFA\nfolds = 3\nseeds = 5 1\n[settings]"
    file.write_text(file.read_text().replace("[settings]", head))
    plan = read_plan(file)
    assert len(plan.runs) == 12 and {run.variant for run in plan.runs} == {"unet", "resunet"}
    assert [(run.name, run.seed) for run in plan.runs][2:4] == [
        ("architecture-unet_seed5_fold03", 5),
        ("architecture-unet_seed1_fold01", 1),
    ]
    read = [run.configuration for run in plan.runs[:6]]
    assert [c.training_settings.seed for c in read] == [5, 5, 5, 1, 1, 1]
    assert len({c.data_paths.path_local for c in read}) == 3  # each fold is prepared once


def test_finished_runs_stay_failed_ones_are_told_and_the_table_has_the_scores(prepared, tmp_path, capsys):
    vary = "[vary]\nmodel.architecture = unet | resunet\n[reference]\nsource = me\n"
    file = plan_file(tmp_path, vary)
    file.write_text(file.read_text().replace(str(tmp_path / "datasets"), str(prepared / "datasets")))
    plan = read_plan(file)
    broken = tmp_path / "experiments" / "plan" / "architecture-unet" / "architecture-unet_checkpoint.npz"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"torn")
    table, failures = run_plan(plan)
    assert len(failures) == 1 and failures[0].startswith("architecture-unet: ")
    rows = json.loads(table.with_suffix(".json").read_text())["runs"]
    assert [row["run"] for row in rows] == ["architecture-resunet"]
    measured = json.loads((table.parent / "architecture-resunet" / "performances.json").read_text())
    assert rows[0]["auc_roc"] == measured["network_in_field_of_view"]["auc_roc"]
    written = (table.parent / "architecture-resunet" / "history.csv").stat().st_mtime_ns
    broken.unlink()
    table, failures = run_plan(plan)
    assert failures == [] and len(json.loads(table.with_suffix(".json").read_text())["runs"]) == 2
    assert (table.parent / "architecture-resunet" / "history.csv").stat().st_mtime_ns == written
    for name in ("results.png", "comparison.png", "results.csv"):
        assert (table.parent / name).is_file()


def test_a_run_with_the_scores_of_other_settings_is_not_finished(prepared, tmp_path):
    file = plan_file(tmp_path)
    file.write_text(file.read_text().replace(str(tmp_path / "datasets"), str(prepared / "datasets")))
    (run,) = read_plan(file).runs
    assert run_plan(read_plan(file))[1] == [] and run.is_tested
    # A second start with more epochs was stopped between two epochs: the stored settings are the new ones.
    (longer,) = read_plan(file, ["training settings.N_epochs=2"]).runs
    run.experiment.configuration.write_text(longer.configuration.as_text())
    assert not longer.is_tested
    assert run_plan(read_plan(file, ["training settings.N_epochs=2"]))[1] == []
    assert longer.is_tested and len(longer.experiment.history()) == 2
    _, (failure,) = run_plan(read_plan(file))
    assert "trained for 2 epochs, but [training settings] N_epochs = 1" in failure and longer.is_tested
    run.results.performances.write_text("torn")
    assert not longer.is_tested


def test_what_changes_no_score_leaves_a_run_finished_and_what_the_scores_belong_to_does_not(
    prepared, tmp_path
):
    file = plan_file(tmp_path)
    file.write_text(file.read_text().replace(str(tmp_path / "datasets"), str(prepared / "datasets")))
    plan = read_plan(file)
    (run,) = plan.runs
    assert run_plan(plan)[1] == []
    drawn = ["testing settings.figure_formats=pdf", "testing settings.test_batch_size=3"]
    assert read_plan(file, drawn).runs[0].is_tested
    weights = run.experiment.weights("best").stat().st_mtime_ns
    run.experiment.checkpoint.unlink()  # it is not needed to test again
    assert running.carry_out(plan, read_plan(file, ["testing settings.threshold=0.4"]).runs[0]) is None
    assert (
        running.carry_out(plan, run) is None and run.experiment.weights("best").stat().st_mtime_ns == weights
    )
    assert not read_plan(file, ["testing settings.threshold=0.3"]).runs[0].is_tested
    split = run.experiment.split.read_text()
    run.experiment.split.write_text(split.replace('"test"', '"other"'))
    assert "was trained on another split" in running.carry_out(plan, run)
    run.experiment.split.write_text(split)
    without_auc = read_plan(file, ["training settings.patience=50"]).runs[
        0
    ]  # other settings, another history
    run.experiment.history_file.write_text("epoch,loss\n1,0.3\n")
    assert not without_auc.is_tested
    run.experiment.history_file.write_text("epoch,val_auc\n")  # tested before the training had ended
    assert not run.is_tested


def test_runs_that_began_with_weights_that_were_replaced_fail(prepared, tested, tmp_path):
    weights = tmp_path / "before" / "a.weights.h5"
    weights.parent.mkdir()
    shutil.copy(tested[1].weights("best"), weights)
    (weights.parent / "split.json").write_text('{"parts": {"train": []}}')
    file = plan_file(tmp_path, f"[vary]\ntraining settings.initial_weights = {weights}\n")
    file.write_text(file.read_text().replace(str(tmp_path / "datasets"), str(prepared / "datasets")))
    plan = read_plan(file)
    assert run_plan(plan)[1] == []
    assert run_plan(plan)[1] == []
    weights.write_bytes(weights.read_bytes() + b"0")
    assert "began with other weights than" in run_plan(plan)[1][0]
    weights.unlink()
    assert run_plan(plan)[1] == []


def test_names_of_runs_keep_letters_of_all_languages(tmp_path):
    plan = read_plan(plan_file(tmp_path, "[vary]\ndata paths.path_local = /数据一 | /数据二\n"))
    assert [run.name for run in plan.runs] == ["path_local-数据一", "path_local-数据二"]


def test_a_fold_prepared_with_other_settings_is_refused(prepared, tmp_path):
    def fail(*overrides):
        """Why the first run of the plan fails: its initial weights do not exist."""
        plan = read_plan(file, overrides)
        return running.carry_out(plan, plan.runs[0])

    file = plan_file(tmp_path, "training settings.initial_weights = none.weights.h5\n")
    file.write_text(file.read_text().replace("[settings]", "data_set = FFA\nfolds = 3\n[settings]"))
    angiograms = shutil.copytree(prepared / "angiograms", tmp_path / "angiograms")
    images = f"data paths.path_images={angiograms}"
    same = f"data paths.path_images={tmp_path / '..' / tmp_path.name / 'angiograms'}"
    assert "split.json: no such file; expected [training settings] initial_weights" in fail(images)
    assert "split.json: no such file; expected [training settings] initial_weights" in fail(same)
    (angiograms / "notes.txt").touch()  # the preparation does not read it
    assert "split.json: no such file; expected [training settings] initial_weights" in fail(images)
    truth = next(angiograms.glob("*.json"))
    before = truth.read_text()
    truth.write_text(before.replace("NP", "CNP"))
    assert "content of the images, truths and fields of view = " in fail(images)
    truth.write_text(before)
    reason = fail(images, "preparation.info_banner=bottom:7")
    assert (
        "was prepared with other settings" in reason
        and "info_banner = bottom:7, prepared with auto" in reason
    )


def test_a_fold_of_a_given_split_is_refused_if_the_split_has_changed(prepared, tmp_path):
    file = plan_file(tmp_path, "training settings.initial_weights = none.weights.h5\n")
    file.write_text(file.read_text().replace("[settings]", "data_set = FFA\nfolds = 3\n[settings]"))
    names = sorted({image.stem for image in (prepared / "angiograms").glob("*.png")})
    split = tmp_path / "folds.json"
    images = f"data paths.path_images={prepared / 'angiograms'}"

    def fail(first, *, removed=False):
        folds = [names[:first], names[first : first + 2], names[first + 2 :]]
        split.write_text(json.dumps({"source": "here", "folds": folds}))
        if removed:
            split.unlink()
        plan = read_plan(file, [images, f"preparation.split_file={split}"])
        return running.carry_out(plan, plan.runs[0])

    assert "split.json: no such file; expected [training settings] initial_weights" in fail(2)
    assert "content of split_file = " in fail(1)
    assert "split.json: no such file; expected [training settings] initial_weights" in fail(1, removed=True)
    record = next(tmp_path.rglob("prepared_with.json"))
    stored = json.loads(record.read_text())
    del stored["[preparation] content of split_file"]
    record.write_text(json.dumps(stored))
    assert "split.json: no such file; expected" in fail(1)  # of an earlier version


def test_a_plan_may_have_the_reference_of_another_plan():
    plans = [read_plan(PROJECT / "configurations" / f"stare_leave_one_out{end}.txt") for end in ("", "_best")]
    assert plans[0].reference == plans[1].reference and len(plans[0].reference) == 20
    assert plans[1].reference_source == plans[0].reference_source != ""


def test_what_is_laid_over_holds_for_every_run(tmp_path):
    plan = read_plan(plan_file(tmp_path), ["training settings.seed=77"])
    assert plan.runs[0].configuration.training_settings.seed == 77


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name = plan", "nam = plan", "key 'name' is missing"),
        ("name = plan", "name = plan\nseed = 3", "unknown key 'seed'"),
        ("name = plan", "name = ../plan", r"name = '\.\./plan': expected"),
        ("[settings]", "settings", "no value|parsing errors"),
        ("[settings]", "folds = 3\n[settings]", "expected one of FFA, DRIVE, STARE, CHASE_DB1"),
        ("[settings]", "folds = x\n[settings]", "expected a whole number"),
        ("[settings]", "left_out = 2\n[settings]", "folds = 0 with left_out = 2: expected at least 3 folds"),
        ("[settings]", "data_set = FFA\nfolds = 1\n[settings]", "folds = 1: expected"),
        ("[settings]", "data_set = FFA\nfolds = 2\n[settings]", "folds = 2: expected"),
        (
            "[settings]",
            "[settings]\ntraining settings.nohup = True",
            "nohup = True: expected False in a plan",
        ),
        (
            "training settings.N_epochs = 1",
            "training settings.N_epochs = 1\n[vary]\npreparation.labels = NP | CNP",
            r"\[vary\] preparation.labels: without folds, all variants would have the same prepared data",
        ),
        (
            "[settings]",
            "data_set = FFA\nfolds = 3\n[settings]\ndata paths.path_test = other",
            r"path_test = .*other: expected none with folds",
        ),
        (
            "[settings]",
            "data_set = FFA\nfolds = 3\nleft_out = 2\n[settings]\n"
            "training settings.validation = none\ntesting settings.threshold = 0.5\n"
            "testing settings.min_area_px = 0\ntesting settings.full_images_to_test = 3",
            "full_images_to_test = 3: expected all with left_out = 2",
        ),
        ("[settings]", "seeds = 1 x\n[settings]", "seeds = 'x': expected a whole number"),
        ("[settings]", "seeds = 1 2 1\n[settings]", "expected each seed once"),
        ("[settings]", "seeds = 9999999999\n[settings]", "seed = '9999999999': expected"),
        (
            "[settings]",
            "seeds = 1 2\n[settings]\ntraining settings.seed = 3",
            "seeds and training settings.seed are both given",
        ),
        ("base = ", "base = none/", r"base = none/.*: no such file .*; expected a configuration"),
        (
            "[settings]",
            "[settings]\nexperiment name.name = b",
            r"name: the plan sets .* \[experiments\] name",
        ),
        (
            "[settings]",
            "data_set = FFA\nfolds = 3\n[settings]\npreparation.fold = 2/5",
            r"preparation\.fold: the plan sets this key in each run; choose \[experiments\] folds",
        ),
        ("[settings]", "[setings]", r"unknown section \[setings\]"),
        (
            "[settings]",
            "[reference]\nplan = p.txt\nim1 = 1\n[settings]",
            "plan is given: expected no other key",
        ),
        (
            "[settings]",
            "[reference]\nplan = p.txt\n[settings]",
            r"p\.txt: no such file, named by \[reference\]",
        ),
        ("[settings]", "[reference]\nplan = plan.txt\n[settings]", r"expected \[reference\] with source"),
        ("training settings.N_epochs = 1", "training settings.N_epoch = 1", "did you mean 'N_epochs'"),
    ],
)
def test_mistakes_in_a_plan_are_named(tmp_path, old, new, message):
    file = plan_file(tmp_path)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError, match=message):
        read_plan(file)


def test_a_setting_of_all_runs_must_not_be_one_that_the_plan_varies(tmp_path):
    file = plan_file(tmp_path, "[vary]\nmodel.architecture = unet | resunet\n")
    with pytest.raises(UserError, match=r"--set model.architecture: the plan varies this key"):
        read_plan(file, ["training settings.N_epochs=2", "model.architecture = unet"])
    file = plan_file(tmp_path, "[vary]\ntesting settings.window = whole | tiles\n")
    with pytest.raises(UserError, match=r"--set testing settings.window: the plan varies this key"):
        read_plan(file, ["testing settings.average_mode=False"])  # its name in retina-unet
    twice = "training settings.seed = 1\n[vary]\ntraining settings.seed = 2 | 3\n"
    with pytest.raises(UserError, match=r"\[settings\] or --set training settings.seed: the plan varies"):
        read_plan(plan_file(tmp_path, twice))


def test_a_wrong_value_to_vary_is_named_with_the_file_of_the_plan(tmp_path):
    file = plan_file(tmp_path, "[vary]\nmodel.architecture = unet | unnet\n")
    with pytest.raises(UserError, match=r"plan\.txt or --set over .*demo\.txt: .*did you mean 'unet'"):
        read_plan(file)
    file = plan_file(tmp_path, "[vary]\nexperiment name.path_experiments = a | b\n")
    with pytest.raises(UserError, match=r"\[vary\] .*path_experiments: all runs have one folder"):
        read_plan(file)


def test_settings_need_to_agree_only_with_what_the_plan_varies(tmp_path):
    vary = "[vary]\ntesting settings.test_patch_height = 192 | 256\n"
    settings = ["testing settings.stride_height=128", "testing settings.window=overlap"]
    plan = read_plan(plan_file(tmp_path, vary), settings)
    assert [run.configuration.testing_settings.test_patch_height for run in plan.runs] == [192, 256]


def test_a_list_of_folders_is_shortened_part_by_part(tmp_path):
    vary = "[vary]\ndata paths.path_negatives = ./a/normal, ./none_np | ./b/other, ./none_np\n"
    file = plan_file(tmp_path, vary)
    file.write_text(file.read_text().replace("[settings]", "data_set = FFA\nfolds = 3\n[settings]"))
    runs = read_plan(file).runs
    assert {run.variant for run in runs} == {"normal, none_np", "other, none_np"}


def test_a_plan_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt: no such file of experiments"):
        read_plan(tmp_path / "none.txt")
