import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from lib.evaluation.bland_altman_and_calibration import limits_of_agreement, reliability


def test_bias_and_limits_of_agreement_worked_by_hand():
    # Differences 1, 2, 3: mean 2, standard deviation 1.
    found = limits_of_agreement(np.array([11, 22, 33]), np.array([10, 20, 30]))
    assert (found.bias, found.lower, found.upper) == pytest.approx((2, 0.04, 3.96))


def test_one_measurement_has_a_bias_and_no_limits():
    found = limits_of_agreement(np.array([5]), np.array([3]))
    assert (found.bias, found.lower, found.upper) == (2, None, None)


def test_expected_calibration_error_worked_by_hand():
    probability = np.array([0.1, 0.1, 0.6, 0.8], np.float32)
    truth = np.array([False, True, True, True])
    found = reliability([(probability[:1], truth[:1]), (probability[1:], truth[1:])], bins=2)
    assert found.pixels.tolist() == [2, 2]
    np.testing.assert_allclose(found.probability, [0.1, 0.7], rtol=1e-6)
    np.testing.assert_allclose(found.frequency, [0.5, 1])
    # Half of the pixels are .4 off, the other half .3.
    assert found.expected_calibration_error == pytest.approx(0.35)


def test_images_are_pooled_in_one_calibration_curve():
    generator = np.random.default_rng(0)
    probability = generator.beta(0.3, 0.9, 5000)
    truth = generator.random(5000) < probability**2
    found = reliability([(probability[:900], truth[:900]), (probability[900:], truth[900:])])
    frequency, mean = calibration_curve(truth, probability, n_bins=10)
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.probability, mean)
    assert found.pixels.tolist() == np.histogram(probability, 10, (0, 1))[0].tolist()


def test_a_probability_of_1_is_in_the_last_bin_and_empty_bins_are_left_out():
    found = reliability([(np.array([1.0, 0.0], np.float32), np.array([True, False]))])
    assert found.pixels.tolist() == [1, *[0] * 8, 1]
    assert found.frequency.tolist() == found.probability.tolist() == [0, 1]
    assert found.expected_calibration_error == 0
