import keras
import pytest

from lib.networks.keras_model import build_model
from lib.runtime.errors import UserError
from lib.training.compiled_model import compile_model, set_drop_block_rate
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
    with pytest.raises(UserError, match="dropout_growth_epochs = 2: unet has no DropBlock"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.dropout_growth_epochs=2"
            )
        )


def test_the_error_for_a_loss_on_a_missing_rough_map(prepared):
    with pytest.raises(UserError, match="rough_map_loss_weight = 1: unet has no rough map"):
        train(
            tiny_configuration(
                prepared, "experiment name.name=none", "training settings.rough_map_loss_weight=1"
            )
        )


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
