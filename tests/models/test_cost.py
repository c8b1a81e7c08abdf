import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import models
from lib.runtime.paths import PROJECT
from models.__main__ import published_sizes
from models.cost import activation_bytes_per_pixel, markdown_table, multiply_adds, receptive_field
from models.efficientnet_unet import MOST_LEVELS


def tiny():
    image = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.MaxPooling2D()(x)
    x = layers.SeparableConv2D(6, 3, padding="same", dilation_rate=2)(x)
    x = layers.Conv2DTranspose(5, 2, strides=2)(x)
    return keras.Model(image, layers.Conv2D(1, 1)(x))


def test_multiply_adds_of_a_small_network_agree_with_a_calculation_by_hand():
    # 10 x 12: 3x3 1->4; then on 5 x 6: 3x3 of 4 channels, 4->6; 2x2 6->5 from 5 x 6; 1x1 5->1.
    by_hand = 120 * 9 * 4 + 30 * (9 * 4 + 4 * 6) + 30 * 4 * 6 * 5 + 120 * 5
    assert multiply_adds(tiny(), 10, 12) == by_hand


def test_receptive_field_of_a_small_network_agrees_with_a_calculation_by_hand():
    # 3x3: 3 pixels; pooling adds 1; 3x3 with dilation 2 adds 4 steps of 2; the other layers add nothing.
    assert receptive_field(tiny()) == 3 + 1 + 8


def test_a_depthwise_convolution_counts_one_kernel_for_each_channel():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.DepthwiseConv2D(5, 2, padding="same")(image))
    assert multiply_adds(model, 8, 8) == 16 * 25 * 3  # from 8 x 8 to 4 x 4
    assert receptive_field(model) == 5


def test_the_table_has_efficientnet_unet_at_the_size_of_its_configuration():
    (size,) = (row for row in published_sizes() if row[0] == "efficientnet_unet")
    documented = (PROJECT / "docs" / "reference" / "networks.md").read_text(encoding="utf-8")
    (line,) = (row for row in documented.splitlines() if row.startswith("| `efficientnet_unet`"))
    parameters = int(line.rstrip(" |").rpartition("|")[2].replace(" ", ""))
    assert f"| 16 24 40 64 96 | 3 | {parameters:,} |" in markdown_table([size])


def test_the_greatest_number_of_filters_is_that_of_the_encoder():
    assert models.MOST_FILTERS["efficientnet_unet"] == MOST_LEVELS


def test_a_layer_that_is_applied_twice_counts_twice():
    image = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same")
    assert multiply_adds(keras.Model(image, shared(shared(image))), 8, 8) == 2 * 64 * 9 * 4


def test_full_width_enhance_laddernet_costs_6_gflop_a_patch():
    model = models.build("enhance_laddernet", filters=(64, 128, 256, 512), dropout=0)
    assert 2 * multiply_adds(model, 48, 48) / 1e9 == pytest.approx(6.25, rel=0.01)


@pytest.mark.parametrize("architecture", ["unet", "retina_unet", "ldpc_sd", "resunet"])
def test_pixels_outside_the_receptive_field_do_not_change_the_output(architecture):
    keras.utils.set_random_seed(0)
    model = models.build(architecture, filters=(2, 3), dropout=0, batch_normalisation=False)
    side, middle = 128, 64
    image = np.random.default_rng(0).random((1, side, side, 1), dtype=np.float32)
    reach = int(receptive_field(model)) // 2 + 1
    changed = np.random.default_rng(1).random(image.shape, dtype=np.float32)
    near = slice(middle - reach, middle + reach + 1)
    changed[:, near, near] = image[:, near, near]
    before, after = (
        keras.ops.convert_to_numpy(model(x, training=False))[0, middle, middle] for x in (image, changed)
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_pixels_at_the_edge_of_the_receptive_field_change_the_output():
    keras.utils.set_random_seed(0)
    model = models.build("unet", filters=(4, 6), dropout=0)
    image = np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)
    changed = image.copy()
    changed[:, 32 + int(receptive_field(model)) // 2 - 3] += 1
    before, after = (keras.ops.convert_to_numpy(model(x))[0, 32] for x in (image, changed))
    assert not np.array_equal(before, after)


def test_the_receptive_field_with_attention_is_infinite():
    model = models.build("enhance_laddernet", filters=(2, 4), dropout=0)
    assert receptive_field(model) == float("inf")


def test_the_table_is_printed_without_messages_of_tensorflow():
    command = [sys.executable, "-m", "models", "w_net"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert printed.returncode == 0 and printed.stderr == ""
    head, _, row = printed.stdout.splitlines()
    assert head.startswith("| network") and row.startswith("| `w_net`")


def test_activations_of_a_small_network_agree_with_a_calculation_by_hand():
    # Numbers a pixel: image 1, then 4, 1, 1.5, 5, 1. Most at the transposed convolution: the image, its input
    # and its output, and a copy of the last two.
    assert activation_bytes_per_pixel(tiny()) == 4 * (1 + 2 * (1.5 + 5))


def test_an_activation_that_a_later_layer_needs_stays_in_memory():
    image = keras.Input((None, None, 1))
    first = layers.Conv2D(3, 1)(image)
    x = layers.Conv2D(8, 1)(layers.Conv2D(2, 1)(first))
    model = keras.Model(image, layers.Conv2D(1, 1)(layers.Concatenate()([first, x])))
    assert activation_bytes_per_pixel(model) == 4 * (1 + 2 * (3 + 8 + 11))  # at the concatenation


def test_the_members_of_a_mean_need_memory_at_the_same_time():
    image = keras.Input((None, None, 1))
    members = [tiny(), tiny()]
    mean = keras.Model(image, layers.Average()([member(image) for member in members]))
    assert activation_bytes_per_pixel(mean) >= 2 * activation_bytes_per_pixel(tiny())
