import keras
import numpy as np
import pytest
from scipy import special
from sklearn.metrics import accuracy_score, f1_score, log_loss

from lib.training.losses_and_metrics import (
    accuracy,
    auxiliary_crossentropy,
    binary_crossentropy,
    binary_crossentropy_and_dice,
    binary_crossentropy_and_half_dice,
    dice,
    with_further_outputs,
)

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.integers(2, size=(3, 6, 6, 1)).astype(np.float32)
PREDICTED = GENERATOR.uniform(0.01, 0.99, (3, 6, 6, 1)).astype(np.float32)
INSIDE = GENERATOR.integers(2, size=(3, 6, 6, 1)).astype(np.float32)


def y_true(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([TRUTH, weight], axis=-1)


@pytest.mark.parametrize("weight", [np.ones_like(INSIDE), INSIDE], ids=["whole", "in_FOV"])
def test_losses_agree_with_scikit_learn_over_the_pixels_of_weight_1(weight):
    counted = weight > 0
    truth, predicted = TRUTH[counted], PREDICTED[counted]
    found = float(binary_crossentropy(y_true(weight), PREDICTED))
    assert found == pytest.approx(log_loss(truth, predicted), rel=1e-4)
    right = float(accuracy(y_true(weight), PREDICTED))
    assert right == pytest.approx(accuracy_score(truth, predicted >= 0.5), abs=1e-6)
    both = float(binary_crossentropy_and_dice(y_true(weight), PREDICTED))
    assert both == pytest.approx(found + float(dice(y_true(weight), PREDICTED)), rel=1e-5)
    half = float(binary_crossentropy_and_half_dice(y_true(weight), PREDICTED))
    assert half == pytest.approx((found + both) / 2, rel=1e-5)


@pytest.mark.parametrize(("logit", "truth"), [(-60, 1), (-20, 1), (-20, 0), (0.3, 1), (12, 0)])
def test_the_gradient_by_the_logit_is_probability_minus_truth(logit, truth):
    # Also for a probability far below 1e-7, where the loss of Keras has no gradient, unless the sigmoid is the
    # last operation; ours are followed by a crop.
    pixel = keras.layers.Dense(1, "sigmoid", bias_initializer=keras.initializers.Constant(logit))
    network = keras.Sequential([keras.Input((3, 3, 1)), pixel, keras.layers.Cropping2D(((0, 1), (0, 1)))])
    network.compile(keras.optimizers.SGD(1.0), binary_crossentropy)
    y = np.stack([np.full((1, 2, 2), truth), np.ones((1, 2, 2))], -1)
    network.train_on_batch(np.zeros((1, 3, 3, 1)), y)
    expected = special.expit(logit) - truth
    assert logit - float(pixel.bias.numpy()[0]) == pytest.approx(expected, rel=0.01, abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "truth", "expected"),
    [(0, 0, 0), (1, 1, 0), (0, 1, -np.log(1e-37)), (1, 0, 24 * np.log(2))],
)
def test_the_loss_of_a_saturated_probability_is_finite(probability, truth, expected):
    y = np.array([truth, 1], np.float32).reshape(1, 1, 1, 2)
    found = float(binary_crossentropy(y, np.full((1, 1, 1, 1), probability, np.float32)))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_dice_loss_of_a_binary_prediction_is_one_minus_f1():
    binary = (PREDICTED > 0.5).astype(np.float32)
    found = float(dice(y_true(INSIDE), binary))
    counted = INSIDE > 0
    # Smoothing adds 1 to numerator and denominator, which are some tens.
    assert found == pytest.approx(1 - f1_score(TRUTH[counted], binary[counted]), abs=0.02)
    assert float(dice(y_true(np.ones_like(INSIDE)), TRUTH)) == pytest.approx(0, abs=1e-6)


def test_the_loss_of_a_batch_outside_the_field_of_view_is_0():
    outside = y_true(np.zeros_like(INSIDE))
    assert float(binary_crossentropy(outside, PREDICTED)) == 0
    assert float(dice(outside, PREDICTED)) == 0
    assert float(accuracy(outside, PREDICTED)) == 0


def test_the_loss_on_the_rough_map_is_added_with_its_weight():
    generator = np.random.default_rng(3)
    y_true = np.stack([generator.integers(2, size=(2, 4, 4)), np.ones((2, 4, 4))], -1).astype("f4")
    final, rough = generator.uniform(0.1, 0.9, (2, 2, 4, 4, 1)).astype("f4")
    loss = with_further_outputs(binary_crossentropy, [(0.3, binary_crossentropy)])
    both = loss(y_true, np.concatenate([final, rough], -1))
    truth = y_true[..., :1].ravel()
    expected = log_loss(truth, final.ravel()) + 0.3 * log_loss(truth, rough.ravel())
    assert float(both) == pytest.approx(expected, rel=1e-5)


def test_the_auxiliary_loss_is_measured_against_the_third_channel_in_the_field_of_view():
    generator = np.random.default_rng(5)
    truth, weight, auxiliary = generator.integers(2, size=(3, 2, 6, 6)).astype("f4")
    y = np.stack([truth, weight, auxiliary], -1)
    final, second = generator.uniform(0.1, 0.9, (2, 2, 6, 6)).astype("f4")
    loss = with_further_outputs(binary_crossentropy, [(0.25, auxiliary_crossentropy)])
    counted = weight > 0
    expected = log_loss(truth[counted], final[counted]) + 0.25 * log_loss(auxiliary[counted], second[counted])
    assert float(loss(y, np.stack([final, second], -1))) == pytest.approx(expected, rel=1e-5)


def test_the_auxiliary_truth_does_not_change_the_other_losses():
    with_auxiliary = np.concatenate([y_true(INSIDE), 1 - y_true(INSIDE)[..., :1]], -1)
    for measure in (binary_crossentropy, dice, binary_crossentropy_and_dice, accuracy):
        assert float(measure(with_auxiliary, PREDICTED)) == float(measure(y_true(INSIDE), PREDICTED))
