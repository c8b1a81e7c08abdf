import keras
import numpy as np
import pytest

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration
from lib.networks.keras_model import build_model
from lib.runtime.errors import UserError
from lib.training.compiled_model import TrainingModels, compile_model, set_drop_block_rate
from lib.training.train import train
from lib.training.training_patches import PatchBatches, patch_sampler, training_images
from models.drop_block import DropBlock
from tests.conftest import tiny_configuration


def test_the_rate_of_drop_block_grows_with_the_epochs(prepared):
    configuration = tiny_configuration(
        prepared,
        "model.architecture=ldpc_net",
        "model.filters=4 4 8",
        "model.dropout=0.2",
        "training settings.dropout_growth_epochs=4",
    )
    model = build_model(configuration)
    rates = []
    for epochs_done in (0, 1, 4, 9):
        set_drop_block_rate(model, configuration.training_settings, epochs_done)
        rates.append({float(x.rate_now) for x in model.layers if isinstance(x, DropBlock)})
    assert [len(r) for r in rates] == [1] * 4
    assert [r.pop() for r in rates] == pytest.approx([0, 0.05, 0.2, 0.2])


def test_the_error_for_growing_dropout_in_a_network_without_drop_block(prepared):
    configuration = tiny_configuration(
        prepared, "experiment name.name=none", "training settings.dropout_growth_epochs=2"
    )
    weights = Experiment.of(configuration).weights("best")
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"trained before")
    with pytest.raises(UserError, match="dropout_growth_epochs = 2: unet has no DropBlock"):
        train(configuration, fresh=True)
    assert weights.read_bytes() == b"trained before"
    weights.unlink()


def test_the_error_for_a_loss_on_a_missing_rough_map(prepared):
    with pytest.raises(UserError, match="rough_map_loss_weight = 1: unet has no rough map"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.rough_map_loss_weight=1"
            )
        )


def test_the_cosine_learning_rate_starts_again_after_each_cycle(prepared):
    settings = ["learning_rate_schedule=cosine_cycles", "cycle_epochs=2", "learning_rate=0.01", "N_epochs=7"]
    configuration = tiny_configuration(prepared, *(f"training settings.{setting}" for setting in settings))
    compiled = compile_model(build_model(configuration), configuration.training_settings, steps=4)
    rates = []
    for step in range(20):
        compiled.optimizer.iterations.assign(step)
        rates.append(float(compiled.optimizer.learning_rate))
    # Formula (5) of SGDR (Loshchilov and Hutter, ICLR 2017) with T_i = 2 epochs of 4 steps.
    expected = [0.005 * (1 + np.cos(np.pi * (step % 8) / 8)) for step in range(20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_a_training_is_traced_once(prepared):
    """With N_subimgs = 50 and batches of 16, a last batch of 2 would be traced too."""
    configuration = tiny_configuration(prepared, "training settings.N_subimgs=50")
    images = training_images(configuration)["train"]
    sampler = patch_sampler(configuration, images, truth_centred_share=0)
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

    model = build_model(configuration)
    model = keras.Model(model.input, Traced()(model.output))
    compiled = compile_model(model, configuration.training_settings, configuration.training_settings.steps)
    after = []
    for epoch in range(3):
        patches = PatchBatches(configuration, images, sampler, epoch)
        assert [len(patches[i][0]) for i in range(len(patches))] == [16] * 4
        compiled.fit(patches, shuffle=False, verbose=0)
        after.append(len(traces))
    assert len(set(after)) == 1


class FixedBatches(keras.utils.PyDataset):
    """Three random batches, the same in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(3)
        self._x = generator.random((3, 4, 32, 32, 1), np.float32)
        self._y = generator.integers(2, size=(3, 4, 32, 32, 2)).astype(np.float32)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._x[index], self._y[index]


class RecordedWeights(keras.callbacks.Callback):
    """The weights of the trained network after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.after = []

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self.model.get_weights())


def with_batch_normalisation(prepared, *settings: str) -> tuple[Configuration, keras.Model]:
    """The model has random biases, since those of Keras are 0 at first."""
    settings = [f"training settings.{setting}" for setting in settings]
    configuration = tiny_configuration(prepared, "model.batch_normalisation=True", *settings)
    model = build_model(configuration)
    generator = np.random.default_rng(4)
    for variable in model.trainable_variables:
        if len(variable.shape) == 1:
            variable.assign(generator.uniform(0.5, 1, variable.shape))
    return configuration, model


def test_adamw_decays_kernels_but_neither_biases_nor_normalisation(prepared):
    after = {}
    for decay in (0, 0.5):
        settings = ["optimizer=adamw", f"weight_decay={decay}", "learning_rate=0.01"]
        configuration, model = with_batch_normalisation(prepared, *settings)
        before = {v.path: np.asarray(v) for v in model.trainable_variables}
        compiled = compile_model(model, configuration.training_settings, 1)
        compiled.train_on_batch(*FixedBatches()[0])
        after[decay] = [np.asarray(v) for v in model.trainable_variables]
    kinds = [path.split("/")[-1] for path in before]
    assert set(kinds) == {"kernel", "bias", "gamma", "beta"}
    for kind, start, plain, decayed in zip(kinds, before.values(), after[0], after[0.5], strict=True):
        # Loshchilov and Hutter 2019: the weight itself, times learning rate times decay, is subtracted.
        expected = 0.01 * 0.5 * start if kind == "kernel" else np.zeros_like(start)
        np.testing.assert_allclose(plain - decayed, expected, atol=2e-6)


def trained_twice(prepared, optimizer: str, momentum: float) -> tuple[list, list, list[str]]:
    """Weights of the trained network after each of six steps, saved weights of two epochs, and their names."""
    settings = [f"optimizer={optimizer}", f"weight_average={momentum}", "learning_rate=0.1"]
    configuration, model = with_batch_normalisation(prepared, *settings)
    keras_models = TrainingModels.of(model, configuration)
    recorded, saved = RecordedWeights(), []
    for _ in range(2):
        keras_models.fit(FixedBatches(), [recorded])
        saved.append(keras_models.saved.get_weights())
    return recorded.after, saved, [variable.path.split("/")[-1] for variable in model.weights]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_saved_weights_are_the_average_and_the_training_goes_on_without_it(prepared, optimizer):
    after, saved, names = trained_twice(prepared, optimizer, 0.3)
    unaveraged, last, _ = trained_twice(prepared, optimizer, 0)
    for found, expected in zip([*after, after[2], after[5]], unaveraged + last, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    average = after[0]
    for step, weights in enumerate(after[1:], 1):
        momentum = min(0.3, (1 + step) / (10 + step))
        average = [momentum * a + (1 - momentum) * w for a, w in zip(average, weights, strict=True)]
        if step in (2, 5):  # the last of an epoch
            for name, found, mean, raw in zip(names, saved[step // 3], average, weights, strict=True):
                # Mean and variance of batch normalisation are moving averages already.
                np.testing.assert_allclose(found, raw if name.startswith("moving") else mean, atol=1e-6)
            assert max(abs(a - w).max() for a, w in zip(average, weights, strict=True)) > 1e-3
