import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from lib.evaluation.pixel_scores import (
    choose_threshold,
    f1_score,
    format_score,
    score_nothing_predicted,
    score_pixels,
    score_pool,
)
from lib.evaluation.pooled_pixels import PooledPixels
from lib.runtime.errors import UserError
from lib.training.losses_and_metrics import auc_roc

# Few distinct values, so that ties and pixels exactly at the threshold are common.
pixels = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.5000001, 0.9, 1.0]), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)
property_test = settings(derandomize=True, max_examples=60, deadline=None)


def as_arrays(pairs):
    return (np.array([p for p, _ in pairs], np.float32), np.array([t for _, t in pairs], np.uint8))


@property_test
@given(pixels, st.sampled_from([0.0, 0.25, 0.5, 0.95]))
def test_scores_equal_those_of_scikit_learn(pairs, threshold):
    probability, truth = as_arrays(pairs)
    scores = score_pixels(probability, truth, threshold)
    assert (scores.pixels, scores.threshold) == (truth.size, threshold)
    guess = (probability >= threshold).astype(int)
    undefined = {"zero_division": np.nan}
    expected = {
        "accuracy": metrics.accuracy_score(truth, guess),
        "sensitivity": metrics.recall_score(truth, guess, **undefined),
        "specificity": metrics.recall_score(truth, guess, pos_label=0, **undefined),
        "precision": metrics.precision_score(truth, guess, **undefined),
        "f1": metrics.f1_score(truth, guess, **undefined),
    }
    if truth.any() or guess.any():
        expected["iou"] = metrics.jaccard_score(truth, guess)
    else:
        assert scores.iou is None
    if 0 < truth.sum() < truth.size:
        expected["auc_roc"] = metrics.roc_auc_score(truth, probability)
        expected["auc_pr"] = metrics.average_precision_score(truth, probability)
        if 0 < guess.sum() < guess.size:
            expected["mcc"] = metrics.matthews_corrcoef(truth, guess)
        else:
            assert scores.mcc is None
    else:
        assert scores.auc_roc is scores.auc_pr is scores.mcc is None
    for name, value in expected.items():
        if math.isnan(value):
            assert getattr(scores, name) is None, name
        else:
            assert getattr(scores, name) == pytest.approx(value, abs=1e-12), name
    assert [
        [scores.true_negatives, scores.false_positives],
        [scores.false_negatives, scores.true_positives],
    ] == metrics.confusion_matrix(truth, guess, labels=[0, 1]).tolist()


@property_test
@given(pixels, st.randoms(use_true_random=False))
def test_the_order_of_pixels_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert score_pixels(*as_arrays(pairs), 0.5) == score_pixels(*as_arrays(shuffled), 0.5)


@property_test
@given(pixels.filter(lambda pairs: any(t for _, t in pairs)))
def test_the_chosen_threshold_is_the_best_of_all(pairs):
    probability, truth = as_arrays(pairs)
    f1 = {float(t): score_pixels(probability, truth, t).f1 for t in np.unique(probability)}
    best = max(f1.values())
    assert choose_threshold(PooledPixels([(probability, truth)])) == min(t for t in f1 if f1[t] == best)


def test_no_threshold_can_be_chosen_without_positives():
    with pytest.raises(UserError, match="positive pixel"):
        choose_threshold(PooledPixels([(np.array([0.1, 0.9]), np.array([0, 0]))]))


@property_test
@given(pixels.filter(lambda pairs: len({t for _, t in pairs}) == 2))
def test_the_area_without_the_curve_equals_that_of_scikit_learn(pairs):
    probability, truth = as_arrays(pairs)
    expected = metrics.roc_auc_score(truth, probability)
    assert auc_roc(probability, truth > 0) == pytest.approx(expected, abs=1e-12)


@property_test
@given(pixels)
def test_a_prediction_of_0_scores_as_nothing_predicted(pairs):
    _, truth = as_arrays(pairs)
    pool = PooledPixels([(np.zeros(truth.size), truth)])
    expected = dataclasses.asdict(score_pool(pool, 0.5)[0])
    assert dataclasses.asdict(score_nothing_predicted(pool)) == pytest.approx(expected)


@property_test
@given(pixels.filter(lambda pairs: len({t for _, t in pairs}) == 2))
def test_the_curves_have_points_of_scikit_learn_and_the_same_areas(pairs):
    probability, truth = as_arrays(pairs)
    scores, curves = score_pool(PooledPixels([(probability, truth)]), None)
    assert scores.pixels == truth.size and scores.f1 is None
    roc = list(zip(curves.false_positive_rate, curves.true_positive_rate, strict=True))
    x, y, _ = metrics.roc_curve(truth, probability, drop_intermediate=False)
    assert set(roc) <= set(zip(x, y, strict=True)) and (roc[0], roc[-1]) == ((0, 0), (1, 1))
    assert metrics.auc(*zip(*roc, strict=True)) == pytest.approx(scores.auc_roc, abs=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(truth, probability)
    assert set(zip(curves.recall, curves.precision, strict=True)) <= set(zip(recall, precision, strict=True))
    assert (curves.recall[0], curves.recall[-1], curves.precision[-1]) == (1, 0, 1)
    area = -np.sum(np.diff(curves.recall) * curves.precision[:-1])
    assert area == pytest.approx(scores.auc_pr, abs=1e-12)


def test_curves_of_many_pixels_have_2000_points_in_equal_steps():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 100_000)
    pool = PooledPixels([(np.clip(generator.normal(0.4 + 0.2 * truth, 0.1), 0, 1), truth)])
    _, curves = score_pool(pool, None)
    for x, y in (
        (curves.false_positive_rate, curves.true_positive_rate),
        (curves.recall[5:], curves.precision[5:]),  # the first positive pixels change the precision in steps
    ):
        assert 1600 < x.size <= 2002
        steps = np.hypot(np.diff(x), np.diff(y))
        assert np.percentile(steps, 99) < 4 * steps.mean()


def test_without_areas_there_are_no_curves():
    pool = PooledPixels([(np.array([0.2, 0.8]), np.array([0, 1]))])
    scores, curves = score_pool(pool, 0.5, areas=False)
    assert (scores.f1, scores.auc_roc, scores.auc_pr, curves) == (1, None, None, None)


def test_scores_as_text():
    values = (0.12345, 1.0, 7, None, "auto")
    assert [format_score(value) for value in values] == ["0.1235", "1.0000", "7", "n/a", "auto"]
    assert format_score(0.12345, ".2f") == "0.12"


def test_a_constant_prediction_has_areas_of_one_half():
    scores = score_pixels(np.full(8, 0.3), np.array([1, 0] * 4), 0.5)
    assert scores.auc_roc == scores.auc_pr == 0.5


def test_many_pixels_do_not_overflow():
    truth = np.zeros(300_000, np.uint8)
    truth[:100_000] = 1
    scores = score_pixels(truth.astype(np.float32), truth, 0.5)
    assert scores.mcc == scores.auc_roc == scores.f1 == 1.0


def test_f1_of_counts_is_elementwise_and_nan_where_undefined():
    found = f1_score(np.array([3, 0, 0]), np.array([1, 2, 0]), np.array([1, 0, 0]))
    np.testing.assert_array_equal(found, [6 / 8, 0, np.nan])
