import keras
import numpy as np
import pytest

from lib.networks.batches import HalfBatchRetry
from lib.runtime.errors import UserError
from tests.hungry_layer import hungry


@pytest.fixture(scope="module")
def network():
    image = keras.Input((None, None, 1))
    return keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((7, 8, 9, 1), np.float32)


def test_batches_are_halved_once_and_stay_so(network, images, capsys):
    predict = HalfBatchRetry(hungry(network, 4).predict_on_batch)
    expected = network.predict_on_batch(images)
    for _ in range(2):
        np.testing.assert_allclose(predict(images), expected, atol=1e-6)
    assert (
        capsys.readouterr().out
        == "not enough memory for 7 of 9x8 pixels at once: batches are halved\n"
    )


@pytest.mark.parametrize(("number", "most", "told"), [(7, 3, "4 of 9x8"), (1, 0, "1 of 9x8")])
def test_what_is_too_much_even_then_is_a_line(network, images, number, most, told):
    predict = HalfBatchRetry(hungry(network, most).predict_on_batch)
    for _ in range(2):
        with pytest.raises(
            UserError, match=f"^not enough memory for {told} pixels at once: lower .*$"
        ):
            predict(images[:number])


def test_other_errors_are_not_taken_for_it(images):
    def predict(images):
        raise ValueError("channels")

    with pytest.raises(ValueError, match="channels"):
        HalfBatchRetry(predict)(images)
