import os

import keras
import numpy as np
import pytest

from lib.runtime.errors import UserError
from lib.training.checkpoint import (
    checkpoint_exists,
    keep_previous_checkpoint,
    load_checkpoint,
    previous_checkpoint,
    save_checkpoint,
)
from lib.training.early_stopping import TrainingState


def compiled_network(units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Dense(units), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("adam", "mse")
    return model


def train_steps(model: keras.Model, steps: int) -> list[np.ndarray]:
    x, y = np.random.default_rng(0).random((2, 8, 2)).astype(np.float32)
    for _ in range(steps):
        model.train_on_batch(x, y[:, :1])
    return model.get_weights()


def test_a_resumed_training_agrees_with_an_uninterrupted_one(tmp_path):
    uninterrupted = train_steps(compiled_network(), 7)
    first = compiled_network()
    train_steps(first, 3)
    state = TrainingState([{"epoch": 1, "val_auc": 0.1 + 0.2}], best_epoch=1)
    save_checkpoint(tmp_path / "c.npz", first, state)
    second = compiled_network()
    train_steps(second, 1)  # changes all of the state, also the seed of dropout
    assert load_checkpoint(tmp_path / "c.npz", second) == state
    for expected, found in zip(uninterrupted, train_steps(second, 4), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_error_for_a_damaged_checkpoint_or_another_network_names_the_file(tmp_path):
    file = tmp_path / "c.npz"
    save_checkpoint(file, compiled_network(), TrainingState())
    with pytest.raises(UserError, match=r"c\.npz: the training cannot continue .*other weights.*--fresh"):
        load_checkpoint(file, compiled_network(4))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(
        UserError, match=r"c\.npz: the training cannot continue .*\(\w+(Error|File): .+\); start"
    ):
        load_checkpoint(file, compiled_network())


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    np.savez(tmp_path / "c.npz", state=np.array([Code()]))
    with pytest.raises(UserError, match="cannot continue"):
        load_checkpoint(tmp_path / "c.npz", compiled_network())
    assert not (tmp_path / "made").exists()


@pytest.fixture
def two_epochs(tmp_path):
    """A checkpoint, and the one before."""
    file, model = tmp_path / "c.npz", compiled_network()
    save_checkpoint(file, model, TrainingState([{"epoch": 1}]))
    keep_previous_checkpoint(file)
    save_checkpoint(file, model, TrainingState([{"epoch": 1}, {"epoch": 2}]))
    return file


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_if_a_checkpoint_is_truncated_the_one_before_is_used(two_epochs, share, capsys):
    content = two_epochs.read_bytes()
    two_epochs.write_bytes(content[: int(share * len(content))])
    assert load_checkpoint(two_epochs, compiled_network()).epochs_done == 1
    assert "c.npz: damaged or missing (" in capsys.readouterr().out
    keep_previous_checkpoint(two_epochs)  # as the next epoch does: the good one is not replaced
    assert load_checkpoint(two_epochs, compiled_network()).epochs_done == 1


def test_a_flipped_bit_is_detected_or_changes_nothing(two_epochs):
    content, whole = two_epochs.read_bytes(), compiled_network()
    load_checkpoint(two_epochs, whole)
    for place in range(0, len(content), 211):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        two_epochs.write_bytes(changed)
        found = compiled_network()
        if load_checkpoint(two_epochs, found).epochs_done == 2:
            for expected, value in zip(whole.get_weights(), found.get_weights(), strict=True):
                np.testing.assert_array_equal(value, expected)


def test_a_kill_between_two_renames_leaves_a_checkpoint_and_two_damaged_ones_are_an_error(two_epochs):
    keep_previous_checkpoint(two_epochs)
    assert not two_epochs.exists() and checkpoint_exists(two_epochs)
    assert load_checkpoint(two_epochs, compiled_network()).epochs_done == 2
    previous_checkpoint(two_epochs).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"c\.npz: the training cannot continue .*--fresh"):
        load_checkpoint(two_epochs, compiled_network())
