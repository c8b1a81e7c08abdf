import numpy as np
import pytest
from sklearn import metrics

from lib.evaluation import pooled_pixels
from lib.evaluation.pixel_scores import choose_threshold, score_pool
from lib.evaluation.pooled_pixels import PooledPixels


@pytest.fixture
def images():
    """Three images; many pixels share a score, and many scores are nearly equal."""
    generator = np.random.default_rng(3)
    drawn = []
    for size in (700, 1300, 950):
        truth = generator.integers(0, 2, size)
        scores = np.clip(0.3 * truth + 0.7 * generator.random(size), 0, 1).astype(np.float32)
        scores[generator.random(size) < 0.4] = 0
        drawn.append((scores, truth))
    return drawn


@pytest.fixture
def small_memory(monkeypatch):
    """Memory for only a hundred pixels."""
    monkeypatch.setattr(pooled_pixels, "SORTED_TOGETHER", 100)
    monkeypatch.setattr(pooled_pixels, "IN_MEMORY", 4000)


@pytest.mark.usefixtures("small_memory")
def test_ranges_are_in_order_and_contain_every_pixel_once(images):
    scores, truth = (np.concatenate(arrays) for arrays in zip(*images, strict=True))
    ranges = list(PooledPixels(images).by_score())
    assert len(ranges) > 10
    assert np.array_equal(np.concatenate([r.scores for r in ranges]), np.unique(scores))
    for found in ranges:
        assert found.scores.size <= 100
        for index in (0, -1):
            at, above = scores == found.scores[index], scores >= found.scores[index]
            assert found.negatives[index] == np.count_nonzero(at & (truth == 0))
            assert found.positives[index] == np.count_nonzero(at & (truth == 1))
            assert found.false_positives[index] == np.count_nonzero(above & (truth == 0))
            assert found.true_positives[index] == np.count_nonzero(above & (truth == 1))


@pytest.mark.usefixtures("small_memory")
def test_any_number_of_pixels_with_one_score_is_counted_without_sorting():
    scores = np.repeat([0.2, 0.5, np.nextafter(np.float32(0.5), 1)], [1, 300, 3])
    pool = PooledPixels([(scores, np.arange(304) % 3 == 0)])
    crowded = np.float32(0.5).view(np.uint32) * 2 // 2**pooled_pixels.BIN_BITS
    assert (crowded, crowded + 1) in pool._ranges()
    low, middle = pool.by_score()
    assert low.scores.tolist() == pytest.approx([0.2])
    assert middle.scores.tolist() == np.unique(scores.astype(np.float32))[1:].tolist()
    assert (middle.negatives.tolist(), middle.positives.tolist()) == ([200, 2], [100, 1])


def test_scores_do_not_depend_on_the_ranges(images, request):
    scores, truth = (np.concatenate(arrays) for arrays in zip(*images, strict=True))
    at_once, threshold = PooledPixels(images), choose_threshold(PooledPixels(images))
    whole, _ = score_pool(at_once, threshold)
    request.getfixturevalue("small_memory")
    pool = PooledPixels(images)
    found, curves = score_pool(pool, threshold)
    assert choose_threshold(pool) == threshold
    assert found.auc_roc == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert found.auc_pr == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-12)
    assert found.true_positives == np.count_nonzero((scores >= threshold) & (truth == 1))
    assert found.f1 == whole.f1
    area = metrics.auc(curves.false_positive_rate, curves.true_positive_rate)
    assert area == pytest.approx(found.auc_roc, abs=1e-3)


def test_the_lowest_of_several_best_thresholds_is_chosen_although_ranges_part_them(monkeypatch):
    monkeypatch.setattr(pooled_pixels, "SORTED_TOGETHER", 1)
    scores, truth = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0, 0])
    pool = PooledPixels([(scores, truth)])
    assert len(list(pool.by_score())) == 3
    assert choose_threshold(pool) == 0.5  # F1 is 2/3 at 0.9 too


def test_minus_zero_is_zero():
    pool = PooledPixels([(np.array([-0.0, 0.0]), np.array([0, 1]))])
    (found,) = pool.by_score()
    assert (found.scores.tolist(), found.negatives.tolist(), found.positives.tolist()) == ([0], [1], [1])


@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan])
def test_scores_outside_0_to_1_are_refused(score):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        PooledPixels([(np.array([0.5, score]), np.array([0, 1]))])
