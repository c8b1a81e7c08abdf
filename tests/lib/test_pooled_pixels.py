import numpy as np
import pytest
from sklearn import metrics

from lib import pooled_pixels
from lib.pixel_scores import choose_threshold, score_pool
from lib.pooled_pixels import PooledPixels


@pytest.fixture
def images():
    """Three images; many pixels share a score, and many scores are nearly alike."""
    generator = np.random.default_rng(3)
    drawn = []
    for size in (700, 1300, 950):
        truth = generator.integers(0, 2, size)
        scores = np.clip(0.3 * truth + 0.7 * generator.random(size), 0, 1).astype(np.float32)
        scores[generator.random(size) < 0.4] = 0
        drawn.append((scores, truth))
    return drawn


@pytest.fixture
def of_few_pixels(monkeypatch):
    """As if computers held but a hundred pixels."""
    monkeypatch.setattr(pooled_pixels, "AT_ONCE", 100)
    monkeypatch.setattr(pooled_pixels, "IN_MEMORY", 4000)


@pytest.mark.usefixtures("of_few_pixels")
def test_ranges_come_in_order_and_hold_every_pixel_once(images):
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


def test_pixels_scored_in_ranges_score_as_all_at_once(images, request):
    scores, truth = (np.concatenate(arrays) for arrays in zip(*images, strict=True))
    at_once, threshold = PooledPixels(images), choose_threshold(PooledPixels(images))
    whole, _ = score_pool(at_once, threshold)
    request.getfixturevalue("of_few_pixels")
    pool = PooledPixels(images)
    found, curves = score_pool(pool, threshold)
    assert choose_threshold(pool) == threshold
    assert found.auc_roc == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert found.auc_pr == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-12)
    assert found.true_positives == np.count_nonzero((scores >= threshold) & (truth == 1))
    assert found.f1 == whole.f1
    area = metrics.auc(curves.false_positive_rate, curves.true_positive_rate)
    assert area == pytest.approx(found.auc_roc, abs=1e-3)


def test_zero_has_one_sign():
    pool = PooledPixels([(np.array([-0.0, 0.0]), np.array([0, 1]))])
    (found,) = pool.by_score()
    assert (found.scores.tolist(), found.negatives.tolist(), found.positives.tolist()) == (
        [0],
        [1],
        [1],
    )


@pytest.mark.parametrize("score", [-0.1, np.nan, np.inf])
def test_what_is_no_score_is_refused(score):
    with pytest.raises(ValueError, match="at least 0"):
        PooledPixels([(np.array([0.5, score]), np.array([0, 1]))])
