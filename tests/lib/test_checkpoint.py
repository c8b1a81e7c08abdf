import keras
import numpy as np
import pytest

from lib.checkpoint import (
    TrainingState,
    is_there,
    keep_previous,
    load_checkpoint,
    previous,
    save_checkpoint,
)
from lib.runtime.errors import UserError


def network(units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Dense(units), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("adam", "mse")
    return model


def learn(model: keras.Model, steps: int) -> list[np.ndarray]:
    x, y = np.random.default_rng(0).random((2, 8, 2)).astype(np.float32)
    for _ in range(steps):
        model.train_on_batch(x, y[:, :1])
    return model.get_weights()


def test_a_restored_training_goes_on_as_if_never_stopped(tmp_path):
    straight = learn(network(), 7)
    first = network()
    learn(first, 3)
    state = TrainingState([{"epoch": 1, "val_auc": 0.1 + 0.2}], best_epoch=1)
    save_checkpoint(tmp_path / "c.npz", first, state)
    second = network()
    learn(second, 1)  # another state, dropout's seed among it, to be overwritten
    assert load_checkpoint(tmp_path / "c.npz", second) == state
    for expected, found in zip(straight, learn(second, 4), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_of_another_network_or_torn_is_refused_by_name(tmp_path):
    file = tmp_path / "c.npz"
    save_checkpoint(file, network(), TrainingState())
    with pytest.raises(UserError, match=r"c\.npz: cannot go on .*other weights.*--fresh"):
        load_checkpoint(file, network(4))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match=r"c\.npz: cannot go on"):
        load_checkpoint(file, network())


@pytest.fixture
def two_epochs(tmp_path):
    """A checkpoint, and the one before."""
    file, model = tmp_path / "c.npz", network()
    save_checkpoint(file, model, TrainingState([{"epoch": 1}]))
    keep_previous(file)
    save_checkpoint(file, model, TrainingState([{"epoch": 1}, {"epoch": 2}]))
    return file


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_checkpoint_cut_anywhere_gives_way_to_the_one_before(two_epochs, share, capsys):
    content = two_epochs.read_bytes()
    two_epochs.write_bytes(content[: int(share * len(content))])
    assert load_checkpoint(two_epochs, network()).epochs_done == 1
    assert "c.npz: torn or missing (" in capsys.readouterr().out


def test_a_flipped_bit_is_noticed_or_harmless(two_epochs):
    content, whole = two_epochs.read_bytes(), network()
    load_checkpoint(two_epochs, whole)
    for place in range(0, len(content), 211):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        two_epochs.write_bytes(changed)
        found = network()
        if load_checkpoint(two_epochs, found).epochs_done == 2:
            for expected, value in zip(whole.get_weights(), found.get_weights(), strict=True):
                np.testing.assert_array_equal(value, expected)


def test_killed_between_two_renames_a_checkpoint_is_there_and_both_torn_are_told(two_epochs):
    keep_previous(two_epochs)
    assert not two_epochs.exists() and is_there(two_epochs)
    assert load_checkpoint(two_epochs, network()).epochs_done == 2
    previous(two_epochs).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"c\.npz: cannot go on .*--fresh"):
        load_checkpoint(two_epochs, network())
