import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from lib.evaluation import patient_statistics
from lib.evaluation.patient_statistics import (
    SCORES,
    Estimate,
    ScoredImage,
    count_patients,
    estimate,
    paired_tests,
    patient_scores,
    pooled_scores,
)

AUC_ROC, AUC_PR, F1, ACCURACY, SENSITIVITY, SPECIFICITY = range(len(SCORES))


def images(patients=4, per_patient=2, pixels=300, seed=0, shift=1.0, share=0.3, decimals=None):
    generator = np.random.default_rng(seed)
    made = []
    for number, image in itertools.product(range(patients), range(per_patient)):
        truth = generator.random(pixels) < share
        logit = generator.normal(truth * shift + generator.normal() * 0.5, 1)
        scores = (1 / (1 + np.exp(-logit))).astype(np.float32)
        scores = scores if decimals is None else scores.round(decimals)
        made.append(ScoredImage(f"{number}-{image}", f"{number}", scores, truth, 0.4 + number / 20))
    return made


def by_scikit_learn(chosen):
    truth = np.concatenate([i.truth for i in chosen])
    scores = np.concatenate([i.scores for i in chosen])
    marked = np.concatenate([i.scores >= i.threshold for i in chosen])
    return [
        metrics.roc_auc_score(truth, scores),
        metrics.average_precision_score(truth, scores),
        metrics.f1_score(truth, marked),
        metrics.accuracy_score(truth, marked),
        metrics.recall_score(truth, marked),
        metrics.recall_score(truth, marked, pos_label=0),
    ]


@pytest.mark.parametrize("decimals", [None, 1])
def test_scores_of_weighted_counts_equal_scores_of_pixels(decimals):
    made = images(decimals=decimals)
    counts = count_patients(made)
    assert counts.patients == ("0", "1", "2", "3")
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 0, 0]])
    found = pooled_scores(counts, weights)
    for column, times in zip(found.T, weights, strict=True):
        drawn = [i for i in made for _ in range(times[int(i.patient)])]
        np.testing.assert_allclose(column, by_scikit_learn(drawn), atol=1e-12)


@pytest.mark.parametrize("share", [0.3, 0.01])
@pytest.mark.parametrize("crowded", [False, True])
def test_bins_change_areas_by_less_than_a_ten_thousandth(share, crowded):
    made = images(per_patient=1, pixels=60_000, share=share)
    if crowded:  # nearly all at 0, as with most networks
        made = [ScoredImage(i.name, i.patient, i.scores**12, i.truth, 0.5) for i in made]
    found = pooled_scores(count_patients(made), np.ones(4))
    np.testing.assert_allclose(found[:2], by_scikit_learn(made)[:2], atol=1e-4)


def test_the_interval_equals_that_of_patients_drawn_one_by_one(monkeypatch):
    monkeypatch.setattr(patient_statistics, "RESAMPLES", 50)
    made = images()
    found = estimate([count_patients(made)])
    np.testing.assert_allclose(found.values, by_scikit_learn(made), atol=1e-12)
    # scipy draws the resamples in batches of 16, from one generator.
    generator = np.random.default_rng(patient_statistics.SEED)
    drawn = [generator.integers(0, 4, (size, 4)) for size in (16, 16, 16, 2)]
    naive = [
        by_scikit_learn([i for p in patients for i in made if i.patient == str(p)])
        for patients in np.concatenate(drawn)
    ]
    np.testing.assert_allclose(found.resampled, np.transpose(naive), atol=1e-12)
    ends = np.percentile(naive, [2.5, 97.5], axis=0).T
    np.testing.assert_allclose(found.interval(), ends, atol=1e-12)


def test_seeds_are_averaged_and_differences_are_paired(monkeypatch):
    monkeypatch.setattr(patient_statistics, "RESAMPLES", 40)
    one, two, weaker = (count_patients(images(seed=s, shift=h)) for s, h in ((1, 2), (2, 2), (3, 0)))
    both = estimate([one, two])
    alone = [estimate([counts]) for counts in (one, two)]
    np.testing.assert_allclose(both.resampled, (alone[0].resampled + alone[1].resampled) / 2)
    difference = alone[0].minus(estimate([weaker]))
    assert difference.interval()[AUC_ROC, 0] > 0
    np.testing.assert_array_equal(alone[0].minus(alone[0]).interval(), 0)
    np.testing.assert_allclose(
        patient_scores([one, two]), (patient_scores([one]) + patient_scores([two])) / 2
    )


def test_undefined_scores_are_nan_and_left_out_of_intervals(monkeypatch):
    monkeypatch.setattr(patient_statistics, "RESAMPLES", 200)
    made = images(patients=3)
    none = np.zeros(300, bool)
    made = [i if i.patient == "0" else ScoredImage(i.name, i.patient, i.scores, none, None) for i in made]
    found = estimate([count_patients(made)])
    assert np.isfinite(found.values[[AUC_ROC, AUC_PR]]).all()
    assert np.isnan(found.values[F1])
    assert np.isnan(found.resampled[AUC_ROC]).any()  # patient 0 was not drawn
    assert np.isfinite(found.interval()[AUC_ROC]).all()
    assert np.isnan(found.interval()[F1]).all()
    assert np.isnan(patient_scores([count_patients(made)])[AUC_ROC]).tolist() == [False, True, True]


def test_one_patient_has_scores_but_no_interval():
    found = estimate([count_patients(images(patients=1))])
    assert np.isfinite(found.values).all() and found.resampled is None
    assert np.isnan(found.interval()).all()
    assert isinstance(found.minus(found), Estimate)


def test_holm_correction_worked_by_hand():
    # Of 8 patients, all differ in one direction: p = 2 / 2**8. Between b and c, the signed ranks are
    # -5 1 2 3 4 6 7 8; ten sets of ranks have a sum of at most 5: p = 2 * 10 / 2**8.
    networks = {"a": np.arange(1.0, 9) * 10, "b": np.zeros(8), "c": -np.array([-5.0, 1, 2, 3, 4, 6, 7, 8])}
    tests = paired_tests("f1", {n: dict(enumerate(v)) for n, v in networks.items()})
    assert [t.p_value for t in tests] == pytest.approx([2 / 256, 2 / 256, 20 / 256])
    # Times 3, 2, 1; the second is not below the first.
    assert [t.p_holm for t in tests] == pytest.approx([6 / 256, 6 / 256, 20 / 256])


def test_networks_are_paired_by_patient():
    generator = np.random.default_rng(0)
    a, b, c = generator.random((3, 8))
    named = {n: {f"p{i}": v for i, v in enumerate(x)} for n, x in (("a", a), ("b", b), ("c", c))}
    named["b"]["p3"] = np.nan
    named["c"]["only here"] = 0.5
    tests = paired_tests("f1", named)
    assert [(t.first, t.second, t.patients) for t in tests] == [("a", "b", 7), ("a", "c", 8), ("b", "c", 7)]
    without = np.arange(8) != 3
    oracle = [
        stats.wilcoxon(a[without], b[without]).pvalue,
        stats.wilcoxon(a, c).pvalue,
        stats.wilcoxon(b[without], c[without]).pvalue,
    ]
    assert [t.p_value for t in tests] == pytest.approx(oracle)
    assert all(t.p_holm >= t.p_value for t in tests)
    assert tests[1].median_difference == pytest.approx(np.median(a - c))


def test_few_patients_are_not_tested_and_equal_networks_do_not_differ():
    five = {f"p{i}": i / 5 for i in range(5)}
    (test,) = paired_tests("f1", {"a": five, "b": {p: v / 2 for p, v in five.items()}})
    assert (test.patients, test.p_value, test.p_holm) == (5, None, None)
    six = five | {"p5": 1.0}
    assert paired_tests("f1", {"a": six, "b": six})[0].p_value == 1
    (nobody,) = paired_tests("f1", {"a": five, "b": {"q": 0.5}})
    assert (nobody.patients, nobody.median_difference) == (0, None)
