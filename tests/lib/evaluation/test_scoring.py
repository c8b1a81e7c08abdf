import dataclasses
import math
import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn import metrics

from lib.evaluation.pixel_scores import RATES, score_pixels
from lib.evaluation.scoring import PredictedImage, blurred_darkness, choose_min_area, evaluate, f1_of_masks
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

DRIVE = PROJECT.parent / "shared" / "data" / "DRIVE" / "test"


def predicted(probability, truth, field_of_view=None, name="1-1", original=None):
    probability = np.asarray(probability, np.float32)
    if field_of_view is None:
        field_of_view = np.ones(probability.shape)
    if original is None:
        original = np.arange(probability.size).reshape(probability.shape)
    return PredictedImage(
        name=name,
        patient=name.split("-")[0],
        probability=probability,
        truth=np.asarray(truth, np.uint8),
        field_of_view=np.asarray(field_of_view, np.uint8),
        original=np.asarray(original, np.uint8),
    )


def test_a_hand_worked_image():
    case = predicted(
        probability=[[0.9, 0.6, 0.4], [0.5, 0.2, 0.8]],
        truth=[[1, 0, 1], [1, 0, 0]],
        field_of_view=[[1, 1, 1], [1, 1, 0]],
        original=[[0, 0, 0], [255, 255, 255]],
    )
    evaluation = evaluate([case], threshold=0.5)
    inside = evaluation.in_field_of_view
    # In the FOV: .9+ .6- .5+ .4+ .2-; predicted positive: .9 .6 .5.
    assert (inside.true_positives, inside.false_positives) == (2, 1)
    assert (inside.false_negatives, inside.true_negatives) == (1, 1)
    assert inside.pixels == 5
    assert inside.auc_roc == pytest.approx(4 / 6)
    assert inside.auc_pr == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert (inside.accuracy, inside.sensitivity) == (3 / 5, 2 / 3)
    assert (inside.specificity, inside.precision) == (1 / 2, 2 / 3)
    assert (inside.f1, inside.iou) == (2 / 3, 1 / 2)
    assert inside.mcc == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    assert evaluation.whole_image.pixels == 6
    assert evaluation.whole_image.false_positives == 2
    assert evaluation.all_background.accuracy == 2 / 5
    assert evaluation.all_background.auc_roc == 0.5
    assert evaluation.all_background.sensitivity == 0
    assert evaluation.all_background.precision is None
    assert evaluation.per_image[0].scores == inside
    assert evaluation.per_image[0].patient == "1"
    assert evaluation.blurred_darkness.auc_roc is not None
    assert evaluation.blurred_darkness.f1 is None


def test_images_are_pooled_and_averaged_where_defined():
    good = predicted([[0.9, 0.1]], [[1, 0]], name="1-1")
    poor = predicted([[0.9], [0.8], [0.1]], [[0], [1], [0]], name="2-1")
    empty = predicted([[0.1, 0.2]], [[0, 0]], name="3-1")
    evaluation = evaluate([good, poor, empty], 0.5)
    assert evaluation.in_field_of_view.pixels == 7
    assert evaluation.in_field_of_view.f1 == pytest.approx(4 / 5)
    f1 = evaluation.averages["f1"]
    assert f1.images == 2
    assert f1.mean == pytest.approx((1 + 2 / 3) / 2)
    assert f1.standard_deviation == pytest.approx((1 / 3) / math.sqrt(2))
    assert evaluation.averages["accuracy"].images == 3
    assert set(evaluation.averages) == set(RATES)


@pytest.mark.parametrize(
    ("probability", "truth", "field_of_view"),
    [
        ([[0.2, 0.7]], [[0, 0]], [[1, 1]]),
        ([[0.2, 0.7]], [[1, 1]], [[1, 1]]),
        ([[0.5, 0.5]], [[0, 1]], [[1, 1]]),
        ([[0.0, 0.0]], [[0, 1]], [[1, 1]]),
        ([[1.0, 1.0]], [[0, 1]], [[1, 1]]),
        ([[0.2, 0.7]], [[0, 1]], [[0, 0]]),
    ],
    ids=["no positive", "no negative", "constant", "none predicted", "all predicted", "empty FOV"],
)
def test_scores_of_degenerate_images_are_defined(probability, truth, field_of_view):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate([predicted(probability, truth, field_of_view)], 0.5, 0.5)
    for scores in (evaluation.in_field_of_view, evaluation.blurred_darkness):
        for value in dataclasses.astuple(scores):
            assert value is None or math.isfinite(value)
    inside = evaluation.in_field_of_view
    assert (inside.auc_roc is None) == (evaluation.curves is None)
    assert all(average.standard_deviation is None for average in evaluation.averages.values())
    if not np.any(field_of_view):
        assert inside.pixels == 0
        assert all(getattr(inside, rate) is None for rate in RATES)
        assert evaluation.averages["f1"].mean is None


def test_curves_with_fewer_points_keep_their_ends_and_areas():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, (200, 300))
    noisy = truth * 0.2 + generator.random(truth.shape) * 0.8
    evaluation = evaluate([predicted(noisy, truth)], 0.5)
    curves = evaluation.curves
    assert 500 < curves.recall.size <= 2002
    assert (curves.false_positive_rate[0], curves.true_positive_rate[0]) == (0, 0)
    assert (curves.false_positive_rate[-1], curves.true_positive_rate[-1]) == (1, 1)
    assert (curves.recall[0], curves.recall[-1], curves.precision[-1]) == (1, 0, 1)
    assert metrics.auc(curves.false_positive_rate, curves.true_positive_rate) == pytest.approx(
        evaluation.in_field_of_view.auc_roc, abs=1e-3
    )


def test_no_image_and_nan_are_errors():
    with pytest.raises(UserError, match="no test image"):
        evaluate([], 0.5)
    with pytest.raises(UserError, match="9-2: the network predicts NaN"):
        evaluate([predicted([[math.nan, 0.2]], [[0, 1]], name="9-2")], 0.5)


def test_blurred_darkness_is_one_minus_blurred_grey():
    generator = np.random.default_rng(1)
    colour = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    grey = colour @ np.array([0.299, 0.587, 0.114])
    darkness = blurred_darkness(colour)
    assert darkness.dtype == np.float32
    assert darkness.shape == (40, 50)
    expected = 1 - gaussian_filter(grey, 2, mode="mirror") / 255
    # The kernel of OpenCV is a little shorter than that of SciPy.
    np.testing.assert_allclose(darkness, expected, atol=2e-3)
    np.testing.assert_allclose(blurred_darkness(np.full((9, 9), 51, np.uint8)), 0.8, atol=1e-6)


@pytest.mark.skipif(not DRIVE.is_dir(), reason=f"DRIVE is not in {DRIVE}")
def test_second_observer_of_drive_scores_as_published():
    def masks(folder, pattern):
        files = sorted((DRIVE / folder).glob(pattern))
        assert len(files) == 20
        return [(np.asarray(Image.open(file).convert("L")) > 127).astype(np.uint8) for file in files]

    first, second = masks("1st_manual", "*.*"), masks("2nd_manual", "*.*")
    fields_of_view = masks("mask", "*.*")
    inside = np.concatenate([f.ravel() for f in fields_of_view]) > 0
    scores = score_pixels(
        np.concatenate([s.ravel() for s in second])[inside].astype(np.float32),
        np.concatenate([f.ravel() for f in first])[inside],
        0.5,
    )
    assert scores.pixels == 4_538_143
    assert scores.true_positives + scores.false_negatives == 577_649
    assert scores.f1 == pytest.approx(0.7891, abs=5e-5)
    assert scores.accuracy == pytest.approx(0.9473, abs=5e-5)


def test_small_areas_are_dropped_if_f1_rises():
    truth, probability = np.zeros((2, 40, 40))
    truth[5:15, 5:15] = probability[5:15, 5:14] = 1
    probability[30, 30:37] = probability[20:22, 30] = 1  # specks of 7 and 2 pixels
    case = predicted(probability, truth)
    assert f1_of_masks([case], 0.5, [0, 5, 10]) == pytest.approx({0: 180 / 199, 5: 180 / 197, 10: 180 / 190})
    assert choose_min_area([case], 0.5) == 10  # the smallest of the best


def test_the_f1_of_masks_is_that_of_the_field_of_view():
    truth, probability, field_of_view = np.zeros((3, 40, 40))
    field_of_view[:, :20] = 1
    truth[5:15, 5:15] = probability[5:15, 5:14] = 1
    inside = f1_of_masks([predicted(probability, truth, field_of_view)], 0.5, [0, 5])
    assert inside == pytest.approx({0: 180 / 190, 5: 180 / 190})
    probability[20:30, 25:35] = 1  # false positives outside
    truth[5:15, 25:35] = 1  # false negatives outside
    truth[30:39, 25:35] = probability[30:39, 25:35] = 1  # true positives outside
    assert f1_of_masks([predicted(probability, truth, field_of_view)], 0.5, [0, 5]) == inside


def test_a_second_observer_is_scored_against_the_first_inside_the_field_of_view():
    generator = np.random.default_rng(5)
    cases, first, second = [], [], []
    for _ in range(2):
        truth, observer, inside = generator.integers(0, 2, (3, 20, 20))
        case = predicted(generator.random((20, 20)), truth, inside)
        cases.append(dataclasses.replace(case, second_observer=observer.astype(np.uint8)))
        first.append(truth[inside > 0])
        second.append(observer[inside > 0])
    human = evaluate(cases, 0.7).second_observer
    assert human.f1 == pytest.approx(metrics.f1_score(np.concatenate(first), np.concatenate(second)))
    assert human.pixels == sum(map(len, first))
    assert human.threshold is human.auc_roc is human.auc_pr is None
    without = dataclasses.replace(cases[0], second_observer=None)
    for some in ([without, cases[1]], [cases[0], without], [without]):
        assert evaluate(some, 0.7).second_observer is None


def test_connectivity_is_that_of_the_field_of_view_and_only_on_request():
    truth, probability = np.zeros((2, 40, 40))
    truth[10] = truth[30] = 1
    probability[10, :15] = probability[10, 20:] = 0.5  # one vessel with a gap; the threshold is included
    field_of_view = np.ones((40, 40))
    field_of_view[25:] = 0
    case = predicted(probability, truth, field_of_view, name="3-2")
    (measured,) = evaluate([case], 0.5, connectivity=True).connectivity
    assert (measured.components, measured.components_truth) == (2, 1)
    assert measured.connectivity == pytest.approx(1 - 1 / 40)
    probability[35, 5:9] = 1  # outside
    assert evaluate([predicted(probability, truth, field_of_view)], 0.5, connectivity=True).connectivity == (
        measured,
    )
    evaluation = evaluate([case], 0.5)
    assert evaluation.connectivity == ()
    assert [(image.name, image.patient) for image in evaluation.per_image] == [("3-2", "3")]


def test_blurred_darkness_is_scored_at_its_own_threshold():
    generator = np.random.default_rng(6)
    truth, inside = generator.integers(0, 2, (2, 30, 30))
    original = generator.integers(0, 256, (30, 30), dtype=np.uint8)
    case = predicted(generator.random((30, 30)), truth, inside, original=original)
    evaluation = evaluate([case], 0.7, 0.55)
    darkness = blurred_darkness(original)[inside > 0]
    expected = metrics.f1_score(truth[inside > 0], darkness >= 0.55)
    assert 0.1 < expected < 0.9
    baseline = evaluation.blurred_darkness
    assert (baseline.f1, baseline.threshold) == (pytest.approx(expected), 0.55)
    assert (evaluation.threshold, evaluation.in_field_of_view.threshold) == (0.7, 0.7)
    assert baseline.auc_roc == pytest.approx(metrics.roc_auc_score(truth[inside > 0], darkness))
    assert evaluation.curves is not None and evaluation.darkness_curves is not None
    assert evaluate([case], 0.7).blurred_darkness.f1 is None
