import pytest

from benchmarks.certainty import Judged, figures, mean_of_each_image


def judged(number, error, disagreement, in_range=1.0):
    return Judged(f"{number % 10}", disagreement, error, in_range, 1 - disagreement)


def test_the_tenth_is_that_with_the_largest_disagreement():
    predictions = [judged(n, 0.1, n / 100, n % 2) for n in range(18)]
    predictions += [judged(18, 0.5, 0.9), judged(19, 0.7, 0.8)]
    found = figures(predictions)
    assert (found["predictions"], found["tenth"], found["least"]) == (20, 2, 0.8)
    assert found["ratio"] == pytest.approx(0.6 / 0.15)
    assert found["ratio_by_width"] == pytest.approx(0.1 / 0.15)
    assert found["truth_in_range"] == pytest.approx(11 / 20)


def test_predictions_of_an_image_are_averaged():
    first, *_ = mean_of_each_image([judged(3, 0.1, 0.2), judged(4, 0.9, 0.9), judged(13, 0.3, 0.6)])
    assert first == Judged("3", pytest.approx(0.4), pytest.approx(0.2), 1.0, pytest.approx(0.6))
