import dataclasses
import json
import re
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label
from sklearn.metrics import f1_score, roc_auc_score

from lib.datasets.split_file import Member, write_split
from lib.evaluation import patient_statistics as intervals
from lib.evaluation.bland_altman_and_calibration import reliability
from lib.evaluation.measures.image_measures import MEASURES
from lib.evaluation.patient_statistics import SCORES, ScoredImage
from lib.evaluation.performance_report import EPOCHS, SETTINGS, write_performances
from lib.evaluation.predicted_images import read_predictions, write_predictions
from lib.evaluation.scoring import PredictedImage, blurred_darkness, evaluate
from lib.experiments.comparison_figures import (
    _mean_curve,
    _names,
    _recall_and_precision,
    _subtitle,
    results,
    roc_curves,
)
from lib.experiments.plan import read_plan
from lib.experiments.pooled_folds import (
    BACKGROUND,
    DARKNESS,
    HUMAN,
    _validation_auc,
    best_in_each_fold,
    cross_fitted,
    estimate_measures,
    read_tested_images,
    read_variants,
)
from lib.experiments.results_table import write_comparison, write_table
from lib.experiments.statistics_report import compare
from lib.figures.mosaics import labelled_rows
from lib.runtime.errors import UserError
from tests.lib.experiments.test_running import NO_VALIDATION, plan_file

FOLDS, SEEDS, NETWORKS = 4, (1, 2), ("unet", "resunet")


def a_case(patient, quality, seed, second_observer=True):
    """An image of dark areas; the network sees them the better the greater `quality` is."""
    drawn = np.random.default_rng(patient)  # the same under every network
    truth = np.zeros((24, 24), np.uint8)
    row, column = drawn.integers(2, 12, 2)
    truth[row : row + 8, column : column + 8] = 1
    original = (150 - 40 * truth + drawn.normal(0, 40, truth.shape)).clip(0, 255).astype(np.uint8)
    field_of_view = np.ones_like(truth)
    field_of_view[:2] = 0
    noise = np.random.default_rng([patient, seed]).normal(0, 1, truth.shape)
    probability = (1 / (1 + np.exp(1.0 - quality * (truth > 0) - noise))).astype(np.float32)
    human = np.roll(truth, 1, axis=1) if second_observer else None
    return PredictedImage(f"{patient}-1", f"{patient}", probability, truth, field_of_view, original, human)


def finish(run, cases, threshold):
    """Leave behind what a training and its test would."""
    results = run.results
    write_predictions(results.predictions, cases)
    context = {SETTINGS: f"SHA-256 {run.configuration.score_sha256}", EPOCHS: "2 trained"}
    write_performances(results.folder, evaluate(cases, threshold, 0.45), context)
    write_split(run.experiment.split, {"test": [Member(c.name, c.patient, c.name, 0.1) for c in cases]}, "")
    run.experiment.versions.write_text(json.dumps({"parameters": 7}))
    run.experiment.history_file.write_text("epoch,seconds,val_auc\n1,30,0.5\n2,30,0.4\n")


def threshold_of(fold):
    return 0.4 + 0.05 * fold


def fold_cases(network, seed, fold, **more):
    quality = 3 if network == "unet" else 1
    return [a_case(fold + FOLDS * n, quality, seed, **more) for n in range(2)]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Two networks, two seeds, four folds of two patients: all finished."""
    folder = tmp_path_factory.mktemp("plan")
    file = plan_file(folder, f"[vary]\nmodel.architecture = {' | '.join(NETWORKS)}\n")
    head = f"data_set = FFA\nfolds = {FOLDS}\nseeds = 1 2\n[settings]"
    file.write_text(file.read_text().replace("[settings]", head))
    plan = read_plan(file)
    assert len(plan.runs) == FOLDS * len(SEEDS) * len(NETWORKS)
    for number, run in enumerate(plan.runs):
        fold = number % FOLDS
        finish(run, fold_cases(run.variant, run.seed, fold), threshold_of(fold))
    return plan


@pytest.fixture(scope="module")
def variants(plan):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 100)
        return read_variants(plan)


def pooled(network, seed, values):
    """Scores and truth of all FOV pixels, and which are marked."""
    cases = [(case, fold) for fold in range(FOLDS) for case in fold_cases(network, seed, fold)]
    inside = [case.field_of_view > 0 for case, _ in cases]
    scores = np.concatenate([values(c)[i] for (c, _), i in zip(cases, inside, strict=True)])
    truth = np.concatenate([c.truth[i] for (c, _), i in zip(cases, inside, strict=True)])
    marked = np.concatenate(
        [values(c)[i] >= threshold_of(f) for (c, f), i in zip(cases, inside, strict=True)]
    )
    return scores, truth, marked


def test_folds_are_pooled_each_at_its_own_threshold_and_seeds_averaged(variants):
    assert [v.name for v in variants] == list(NETWORKS)
    for variant in variants:
        by_seed = [pooled(variant.name, seed, lambda c: c.probability) for seed in SEEDS]
        found = dict(zip(SCORES, variant.network.estimate.values, strict=True))
        expected = np.mean([roc_auc_score(truth, scores) for scores, truth, _ in by_seed])
        assert found["auc_roc"] == pytest.approx(expected, abs=1e-9)
        expected = np.mean([f1_score(truth, marked) for _, truth, marked in by_seed])
        assert found["f1"] == pytest.approx(expected, abs=1e-9)
        assert variant.confusion.shape == (2, 8, 4)
        expected = reliability([(scores, truth > 0) for scores, truth, _ in by_seed])
        np.testing.assert_array_equal(variant.reliability.pixels, expected.pixels)


def test_measures_are_means_over_the_seeds_at_the_threshold_of_each_fold(variants):
    for variant in variants:
        errors, areas = [], []
        for seed in SEEDS:
            for fold in range(FOLDS):
                for case in fold_cases(variant.name, seed, fold):
                    inside = case.field_of_view > 0
                    predicted = (case.probability >= threshold_of(fold)) & inside
                    errors.append(abs(predicted[inside].mean() - case.truth[inside].mean()))
                    areas.append(label(predicted, connectivity=2).max())
        found = dict(zip(MEASURES, variant.measures.values, strict=True))
        assert found["index_mae"] == pytest.approx(np.mean(errors))
        # Each image has one true area; each area of a pixel counts, since 1 / 528 > .0001.
        assert found["false_areas"] == pytest.approx(np.mean(areas) - found["area_sensitivity"])


def test_vessels_have_no_index(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    images = [
        ScoredImage(
            c.name, c.patient, c.probability.ravel(), c.truth.ravel() > 0, 0.5, np.ones((24, 24), bool)
        )
        for c in fold_cases("unet", 1, 0)
    ]
    found = dict(zip(MEASURES, estimate_measures([images], "vessels").values, strict=True))
    assert np.isfinite(found["nsd_2_px"]) and np.isnan(found["index_mae"]) and np.isnan(found["area_f1"])


def test_baselines_are_scored_on_the_same_pixels(variants):
    scores, truth, _ = pooled("unet", 1, lambda c: blurred_darkness(c.original))
    baselines = variants[0].baselines
    assert set(baselines) == {DARKNESS, BACKGROUND, HUMAN}
    found = {name: dict(zip(SCORES, b.estimate.values, strict=True)) for name, b in baselines.items()}
    assert found[DARKNESS]["auc_roc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert found[DARKNESS]["f1"] == pytest.approx(f1_score(truth, scores >= 0.45))
    assert found[BACKGROUND]["accuracy"] == pytest.approx(1 - truth.mean())
    assert found[BACKGROUND]["sensitivity"] == 0
    human, _, _ = pooled("unet", 1, lambda c: c.second_observer)
    assert found[HUMAN]["f1"] == pytest.approx(f1_score(truth, human))
    assert np.isnan(found[HUMAN]["auc_roc"])


def test_only_patients_of_every_seed_count(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    one = plan.runs[0].results.performances
    kept = one.read_bytes()
    one.unlink()
    try:
        first, second = read_variants(plan)
    finally:
        one.write_bytes(kept)
    assert len(first.network.counts[0].patients) == len(first.network.counts[1].patients) == 6
    assert len(first.images) == 6 and len(second.images) == 8


def test_a_second_observer_of_some_images_is_left_out(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    run = plan.runs[0]
    try:
        finish(run, fold_cases("unet", 1, 0, second_observer=False), threshold_of(0))
        first, _ = read_variants(plan)
    finally:
        finish(run, fold_cases("unet", 1, 0), threshold_of(0))
    assert set(first.baselines) == {DARKNESS, BACKGROUND}


def test_tables_and_pictures_hold_the_statistics(plan, variants):
    table = write_table(plan, variants)
    text = table.read_text()
    for line in ("## Pooled over all patients", "## Difference to blurred darkness", "## Paired tests"):
        assert line in text
    rows = [line.split() for line in text.splitlines()]
    shared = ["|", "blurred", "darkness", "|", "8", "|", "8", "|"]
    assert [row[:8] for row in rows].count(shared) == 1  # the networks share their baselines
    content = json.loads(table.with_suffix(".json").read_text())
    assert len(content["runs"]) == 16
    estimates = {(e["variant"], e["estimate"], e["score"]): e for e in content["estimates"]}
    darkness = estimates["unet", "minus blurred darkness", "f1"]
    network, baseline = (estimates["unet", name, "f1"]["value"] for name in ("network", DARKNESS))
    assert darkness["value"] == pytest.approx(network - baseline)
    assert darkness["interval_low"] <= darkness["value"] <= darkness["interval_high"]
    assert f"{network:.4f} [" in text and f"{darkness['value']:+.4f} [" in text
    dice, area = content["paired_tests"]
    assert (dice["first"], dice["second"], dice["score"], area["score"]) == (*NETWORKS, "f1", "auc_roc")
    assert dice["patients"] == 8 and 0 < dice["p_value"] == dice["p_holm"] < 0.05
    rows = (table.parent / "results_estimates.csv").read_text(encoding="utf-8-sig").splitlines()
    assert rows[0].startswith("variant,estimate,images,patients,seeds,score,value,interval_low")
    assert len(rows) == 1 + len(content["estimates"]) == 1 + 2 * (5 * 6 + len(MEASURES))
    error = estimates["unet", "network", "index_mae"]
    assert 0 < error["interval_low"] <= error["value"] <= error["interval_high"]
    row = next(line for line in text.splitlines() if line.startswith("| Index: mean absolute error "))
    assert f"{error['value']:.4f} [" in row
    assert "AUC-ROC of presence" not in text  # each image has true areas
    (plan.folder / "roc_curves.pdf").touch()  # of earlier runs with other figure_formats
    shown = ("results_estimates.csv", "results_paired_tests.csv", "roc_curves.pdf")
    assert all((plan.folder / name).is_file() for name in shown)
    write_table(plan)  # without statistics: none of earlier runs stays
    assert not any((plan.folder / name).exists() for name in shown)
    write_table(plan, variants)
    write_comparison(plan, variants)
    assert not (plan.folder / "roc_curves.pdf").exists()
    for name in (
        "results", "comparison", "roc_curves", "precision_recall_curves", "box_plot", "bland_altman",
        "calibration",
    ):  # fmt: skip
        with Image.open(table.parent / f"{name}.png") as picture:
            assert min(picture.size) > 400


def texts(draw, folder, variants):
    """The texts of a figure; Matplotlib writes them into an SVG file as comments too."""
    draw(folder / "figure.png", variants, ["svg"])
    return re.findall("<!-- (.*?) -->", (folder / "figure.svg").read_text(), re.DOTALL)


def test_a_precision_recall_curve_begins_at_the_first_marked_pixels(variants):
    """Half of the positive pixels have the highest probability, with a precision of .8."""
    counts = variants[0].network.counts[0]
    positives, negatives = np.zeros_like(counts.positives), np.zeros_like(counts.negatives)
    positives[:, -1], negatives[:, -1], positives[:, 0], negatives[:, 0] = 4, 1, 4, 31
    tied = dataclasses.replace(counts, positives=positives, negatives=negatives)
    network = dataclasses.replace(variants[0].network, counts=(tied,))
    curve = _mean_curve("", network, "auc_pr", _recall_and_precision, "k", dashed=False)
    np.testing.assert_allclose(curve.y[curve.x <= 0.5], 0.8)


def test_roc_says_whether_the_thresholds_differ_by_fold(variants, tmp_path):
    shown = " ".join(texts(roc_curves, tmp_path, variants)).replace("\n", " ")  # long lines are wrapped
    assert "(0.4 to 0.55, differ by fold)" in shown  # threshold_of(0) and threshold_of(3)
    seeds = np.array(SEEDS)[:, None] / 10 * np.ones(8)
    by_seed = [dataclasses.replace(v, thresholds=seeds) for v in variants]
    shown = "\n".join(texts(roc_curves, tmp_path, by_seed))
    assert "(0.1 to 0.2)" in shown and "differ by fold" not in shown
    one = [dataclasses.replace(v, thresholds=np.full((2, 8), 0.5)) for v in variants]
    assert "at the threshold 0.5" in texts(roc_curves, tmp_path, one)


def test_bars_show_the_networks_and_blurred_darkness(variants, tmp_path):
    shown = texts(results, tmp_path, variants)
    assert {*NETWORKS, DARKNESS} <= set(shown)
    for pooled_scores in (variants[0].network, variants[0].baselines[DARKNESS]):
        assert f"{pooled_scores.estimate.values[SCORES.index('f1')]:.3f}" in shown
    assert any("8 patients" in text and "95 % intervals" in text for text in shown)


def test_images_without_a_positive_pixel_have_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    plan = read_plan(plan_file(tmp_path))
    cases = [a_case(patient, 1, 1) for patient in range(2)]
    cases = [dataclasses.replace(c, truth=np.zeros_like(c.truth)) for c in cases]
    finish(plan.runs[0], cases, 0.99)
    variants = read_variants(plan)
    table = write_table(plan, variants)
    write_comparison(plan, variants)
    rows = [[cell.strip() for cell in line.split("|")] for line in table.read_text().splitlines()]
    assert ["", "plan", "2", "2", "n/a", "n/a"] in [row[:6] for row in rows]
    assert (table.parent / "roc_curves.png").is_file()


def test_folds_that_test_an_image_twice_are_refused(plan):
    first = next(run for run in plan.runs if run.folds == (1,))
    other = dataclasses.replace(first, folds=(9,))
    with pytest.raises(UserError, match=r"the folds do not fit each other, .* test 0-1, 4-1;"):
        read_variants(dataclasses.replace(plan, runs=(first, other)))


def test_variants_with_other_folds_or_other_truth_give_no_choice_by_validation(plan):
    assert best_in_each_fold(plan)
    run = plan.runs[0]
    settings = dataclasses.replace(run.configuration.training_settings, validation="patches")
    other = dataclasses.replace(run.configuration, training_settings=settings)
    runs = (dataclasses.replace(run, configuration=other), *plan.runs[1:])
    assert best_in_each_fold(dataclasses.replace(plan, runs=runs)) == []
    split = plan.runs[0].experiment.split
    before = split.read_text()
    for old, new in (('"name": "0-1"', '"name": "3-1"'), ('"truth_fraction": 0.1', '"truth_fraction": 0.2')):
        split.write_text(before.replace(old, new, 1))
        try:
            assert best_in_each_fold(plan) == []
        finally:
            split.write_text(before)


def test_an_unfinished_fold_has_no_choice_by_validation(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    history = next(run for run in plan.runs if run.folds == (1,)).experiment.history_file
    kept = history.read_text()
    history.write_text(kept.splitlines()[0] + "\n1,30,0.99\n")  # it diverged after a good epoch
    try:
        (chosen,) = best_in_each_fold(plan)
    finally:
        history.write_text(kept)
    assert len(chosen.images) == 8 - 2  # without the two images of this fold, also for the other seed


def test_the_choice_by_validation_is_no_network_of_the_paired_tests(plan, variants, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    both = [*variants, *best_in_each_fold(plan)]
    assert len(both) == 3 and compare("f1", both) == compare("f1", variants) != []


def test_patients_of_one_name_are_paired_only_if_they_have_the_same_pixels(variants):
    first, second = variants
    counts = [dataclasses.replace(c, positives=2 * c.positives) for c in second.network.counts]
    other = dataclasses.replace(second, network=dataclasses.replace(second.network, counts=counts))
    assert [test.patients for test in compare("f1", [first, second])] == [8]
    assert [test.patients for test in compare("f1", [first, other])] == [0]


def test_below_six_patients_the_table_says_why_there_is_no_test(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    first_folds = [run for run in plan.runs if run.name.endswith(("fold01", "fold02"))]
    smaller = dataclasses.replace(plan, runs=tuple(first_folds))
    text = write_table(smaller, read_variants(smaller)).read_text()
    assert "n/a: fewer than 6 patients" in text


def test_a_fold_chooses_its_network_by_its_validation_images(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    best, kept = {}, {}
    for run in plan.runs:
        fold = run.folds[0] - 1
        wins = run.variant == NETWORKS[(fold + run.seed) % 2]
        best[run.seed, fold] = run.variant if wins else best.get((run.seed, fold))
        history = run.experiment.history_file
        kept[history] = history.read_text()
        history.write_text(f"epoch,val_auc\n1,{0.8 if wins else 0.3}\n2,{0.1 if wins else 0.7}\n")
    try:
        (chosen,) = best_in_each_fold(plan)
    finally:
        for history, text in kept.items():
            history.write_text(text)
    expected = []
    for seed in SEEDS:
        cases = [c for fold in range(FOLDS) for c in fold_cases(best[seed, fold], seed, fold)]
        inside = [case.field_of_view > 0 for case in cases]
        scores = np.concatenate([c.probability[i] for c, i in zip(cases, inside, strict=True)])
        truth = np.concatenate([c.truth[i] for c, i in zip(cases, inside, strict=True)])
        expected.append(roc_auc_score(truth, scores))
    found = chosen.network.estimate.values[SCORES.index("auc_roc")]
    assert found == pytest.approx(np.mean(expected), abs=1e-9)
    assert set(best.values()) == set(NETWORKS) and len(chosen.images) == 8


@pytest.mark.parametrize(
    ("best_last", "best_by", "expected"), [("last", "auc", 0.7), ("best", "auc", 0.9), ("best", "loss", 0.8)]
)
def test_the_validation_auc_is_that_of_the_tested_weights(plan, best_last, best_by, expected):
    configuration = plan.runs[0].configuration
    testing = dataclasses.replace(configuration.testing_settings, best_last=best_last)
    training = dataclasses.replace(configuration.training_settings, best_by=best_by)
    changed = dataclasses.replace(configuration, testing_settings=testing, training_settings=training)
    rows = zip((0.9, 0.8, 0.7), (3, 1, 2), strict=True)
    history = [{"val_auc": auc, "val_loss": loss} for auc, loss in rows]
    assert _validation_auc(dataclasses.replace(plan.runs[0], configuration=changed), history) == expected


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """One network, two seeds; each training leaves out two of three folds of two patients."""
    folder = tmp_path_factory.mktemp("pairs")
    file = plan_file(folder, "")
    head = f"data_set = FFA\nfolds = 3\nleft_out = 2\nseeds = 1 2\n{NO_VALIDATION}"
    file.write_text(file.read_text().replace("[settings]\n", head))
    plan = read_plan(file)
    for number, run in enumerate(plan.runs):
        run.experiment.folder.mkdir(parents=True)
        cases = [a_case(fold + 3 * n, 2, number) for fold in run.folds for n in range(2)]
        finish(run, cases, 0.5)
    return plan


def test_cross_fitting_averages_the_networks_that_left_out_a_fold(pairs, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    probability = {}  # of the run with a number, for a patient
    for number, run in enumerate(pairs.runs):
        for fold in run.folds:
            for patient in (fold, fold + 3):
                probability[number, patient] = a_case(patient, 2, number).probability[2:]
    numbers = range(len(pairs.runs))

    def mean(patient, folds):
        chosen = [n for n in numbers if folds <= set(pairs.runs[n].folds)]
        return np.mean([probability[n, patient] for n in chosen], axis=0)

    single, ensemble = read_variants(pairs)
    assert ensemble.name == "plan, ensemble of all seeds" and len(single.network.counts) == 2
    assert ensemble.images == tuple(f"{patient}-1" for patient in range(1, 7))
    truth = {patient: a_case(patient, 2, 0).truth[2:] for patient in range(1, 7)}
    scores = np.concatenate([mean(p, {(p - 1) % 3 + 1}).ravel() for p in truth])
    together = np.concatenate([truth[p].ravel() for p in truth])
    values = ensemble.network.estimate.values
    assert values[SCORES.index("auc_roc")] == pytest.approx(roc_auc_score(together, scores), abs=1e-6)
    for row, patient in enumerate(truth):
        fold = (patient - 1) % 3 + 1
        others = [p for p in truth if (p - 1) % 3 + 1 != fold]
        seen = np.concatenate([mean(p, {fold, (p - 1) % 3 + 1}).ravel() for p in others])
        wanted = np.concatenate([truth[p].ravel() for p in others])
        threshold = max(np.unique(seen), key=lambda t: f1_score(wanted, seen >= t))
        predicted = mean(patient, {fold}) >= threshold
        true_positives = (predicted & (truth[patient] > 0)).sum()
        assert ensemble.confusion[0, row, 3] == true_positives


def test_an_unfinished_cross_fitting_has_no_score(pairs):
    assert read_variants(dataclasses.replace(pairs, runs=pairs.runs[:1])) == []


@contextmanager
def unfinished(runs):
    kept = {run.results.performances: run.results.performances.read_bytes() for run in runs}
    for file in kept:
        file.unlink()
    try:
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


def test_a_fold_is_scored_only_if_all_its_trainings_are_finished(pairs, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    (missing,) = (run for run in pairs.runs if (run.folds, run.seed) == ((2, 3), 2))
    seed1 = [run for run in pairs.runs if run.seed == 1]
    complete = cross_fitted(pairs.runs, lambda case: case.probability)
    with unfinished([missing]):
        found = cross_fitted(pairs.runs, lambda case: case.probability)
        names = [variant.name for variant in read_variants(pairs)]
        assert len(cross_fitted(seed1, lambda case: case.probability)) == 6
    # Fold 1 has all its trainings. Its threshold still comes from all images of the folds 2 and 3.
    assert [image.name for image in found] == ["1-1", "4-1"]
    expected = [image for image in complete if image.name in ("1-1", "4-1")]
    assert [image.threshold for image in found] == [image.threshold for image in expected]
    for image, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image.scores, same.scores)
    assert names == ["plan"]  # no ensemble of all seeds
    with unfinished(run for run in pairs.runs if run.folds != (1, 2)):
        assert cross_fitted(pairs.runs, lambda case: case.probability) == []


def test_a_fold_without_a_threshold_is_left_out_with_a_warning(pairs, monkeypatch, capsys):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)

    def positive_in_fold_1_only(case):
        in_fold_1 = (int(case.patient) - 1) % 3 == 0
        return case if in_fold_1 else dataclasses.replace(case, truth=np.zeros_like(case.truth))

    runs = [run for run in pairs.runs if run.seed == 1]
    kept = {run: run.results.predictions.read_bytes() for run in runs}
    for run in runs:
        cases = list(read_predictions(run.results.predictions))
        write_predictions(run.results.predictions, map(positive_in_fold_1_only, cases))
    try:
        found = cross_fitted(runs, lambda case: case.probability)
    finally:
        for run, content in kept.items():
            run.results.predictions.write_bytes(content)
    assert [image.name for image in found] == ["2-1", "3-1", "5-1", "6-1"]
    assert "warning: plan: the images of fold 1 are left out" in capsys.readouterr().out


def test_a_run_that_is_refused_counts_as_unfinished(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    refused = dataclasses.replace(plan.runs[0], refused=True)
    some = dataclasses.replace(plan, runs=(refused, *plan.runs[1:]))
    first, second = read_variants(some)
    assert (len(first.images), len(second.images)) == (6, 8)  # one fold of two images is missing
    text = write_table(some, [first, second]).read_text()
    assert "15 of 16 runs are finished.\n1 failed in the last call" in text
    write_comparison(some, [first, second])
    none = dataclasses.replace(plan, runs=tuple(dataclasses.replace(r, refused=True) for r in plan.runs))
    assert read_variants(none) == []


def test_numbers_of_images_that_differ_are_named(plan, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    runs = (dataclasses.replace(plan.runs[0], refused=True), *plan.runs[1:])
    variants = read_variants(dataclasses.replace(plan, runs=runs))
    assert _subtitle(variants) == "FOV of 6 to 8 images of 6 to 8 patients"
    names = ["unet (6 images)", "resunet (8 images)"]
    assert _names(variants) == (names, f"{DARKNESS} of the images of unet")
    assert _names(variants[:1]) == (["unet"], DARKNESS)


def test_cross_fitting_has_the_baselines_and_a_table(pairs, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    variants = read_variants(pairs)
    assert set(variants[0].baselines) == {DARKNESS, BACKGROUND}
    assert np.isfinite(variants[0].baselines[DARKNESS].estimate.values).all()
    table = write_table(pairs, variants)
    text = table.read_text()
    assert "ensemble of all seeds" in text and "Each training left out two folds." in text
    assert json.loads(table.with_suffix(".json").read_text())["paired_tests"] == []


def test_the_text_of_an_ordinary_cross_validation_names_no_pairs_of_folds(plan, variants):
    assert "left out two folds" not in write_table(plan, variants).read_text()


def test_the_picture_shows_the_mean_of_the_networks_that_predicted_an_image(pairs, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 10)
    write_comparison(pairs, read_variants(pairs))
    with Image.open(pairs.folder / "comparison.png") as picture:
        found = picture.convert("RGB")
    means = {
        title: {
            name: np.mean([c.probability for _, c in read_tested_images(runs) if c.name == name], axis=0)
            for name in (f"{patient}-1" for patient in range(1, 7))
        }
        for title, runs in (
            ("plan", [run for run in pairs.runs if run.seed == 1]),
            ("plan, ensemble of all seeds", pairs.runs),
        )
    }
    names = list(means["plan"])
    cases = {case.name: case for _, case in read_tested_images(pairs.runs)}
    rows = {
        "Original": [cases[name].original for name in names],
        "Ground truth": [cases[name].truth for name in names],
    }
    rows |= {title: [images[name] for name in names] for title, images in means.items()}
    labelled_rows(pairs.folder / "expected.png", rows, names, side=256)
    with Image.open(pairs.folder / "expected.png") as picture:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(picture.convert("RGB")))


def test_two_folds_left_out_give_no_choice_by_validation(pairs):
    two = [dataclasses.replace(run, variant=f"network {run.seed}") for run in pairs.runs]
    assert best_in_each_fold(dataclasses.replace(pairs, runs=tuple(two))) == []
