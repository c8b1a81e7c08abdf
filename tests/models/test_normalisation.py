import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf  # noqa: TID251 (other backends use the layer of Keras)

from models.normalisation import BatchNormalization, by_rows
from models.tensorflow_operations import fused_batch_normalisation

PROJECT = Path(__file__).parents[2]


# All operations of the layer, whichever of them this processor uses.
IMPLEMENTATIONS = {"by rows": by_rows, "fused": fused_batch_normalisation}


def trained_once(layer, x, wanted):
    """Output, gradients and moving statistics of one layer after one step of training."""

    # The sizes are unknown when the step is traced, as in a training whose batches differ in size.
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, x.shape[-1]))])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * wanted)
        return y, tape.gradient(loss, [x, *layer.trainable_variables])

    y, gradients = step(x)
    return [y, *gradients, *layer.non_trainable_variables]


def new_layer(kind, channels, dtype="float32"):
    layer = kind(momentum=0.9, dtype=dtype, gamma_initializer=keras.initializers.Constant(1.7))
    layer.build((None, None, None, channels))
    return layer


def assert_close(ours, reference):
    for found, expected in zip(ours, reference, strict=True):
        assert found.dtype == expected.dtype
        found, expected = (np.asarray(tf.cast(v, tf.float32)) for v in (found, expected))
        scale = np.abs(expected).max() or 1
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("shape", [(4, 7, 5, 3), (9, 1, 1, 6), (1, 6, 9, 1)])
def test_training_agrees_with_the_layer_of_keras(shape, dtype):
    random = np.random.default_rng(0)
    # Values far from zero: a variance computed from sums of squares would be inexact.
    x = (100 + 3 * random.standard_normal(shape)).astype(np.float32)
    wanted = random.standard_normal(shape).astype(np.float32)
    ours = trained_once(new_layer(BatchNormalization, shape[-1], dtype), x, wanted)
    assert_close(ours, trained_once(new_layer(keras.layers.BatchNormalization, shape[-1], dtype), x, wanted))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(4, 7, 5, 3), (9, 1, 1, 6), (1, 6, 9, 1), (1, 1, 1, 2)])
def test_each_implementation_agrees_with_the_layer_of_keras(shape, name):
    random = np.random.default_rng(1)
    x = (100 + 3 * random.standard_normal(shape)).astype(np.float32)
    wanted = random.standard_normal(shape).astype(np.float32)
    reference = new_layer(keras.layers.BatchNormalization, shape[-1])
    expected = trained_once(reference, x, wanted)

    @tf.function
    def step(x, gamma, beta):
        with tf.GradientTape() as tape:
            tape.watch([x, gamma, beta])
            y, mean, variance = IMPLEMENTATIONS[name](x, gamma, beta, reference.epsilon)
            loss = tf.reduce_sum(y * wanted)
        return [y, *tape.gradient(loss, [x, gamma, beta]), 0.1 * mean, 0.9 + 0.1 * variance]

    gamma, beta = (tf.convert_to_tensor(v) for v in reference.trainable_variables)
    assert_close(step(tf.constant(x), gamma, beta), expected)


def test_the_layer_uses_the_fused_operation_if_tensorflow_uses_onednn():
    program = """
import os, sys
os.environ["TF_ENABLE_ONEDNN_OPTS"] = sys.argv[1]
import tensorflow as tf
from models.normalisation import BatchNormalization
layer = BatchNormalization()
step = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.ones((2, 3, 3, 4)))
names = {node.op for node in step.graph.as_graph_def().node}
names |= {node.op for function in step.graph.as_graph_def().library.function for node in function.node_def}
print("FusedBatchNormV3" in names)
"""
    for onednn, fused in (("1", "True"), ("0", "False")):
        command = [sys.executable, "-c", program, onednn]
        found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        assert found.stdout.split()[-1] == fused


def test_the_statistics_of_a_large_batch_are_exact():
    # 8 million values in each channel, of which all have almost the same value.
    x = (0.513 + 0.03 * np.random.default_rng(0).standard_normal((8, 1024, 1024, 1))).astype(np.float32)
    layer = BatchNormalization(momentum=0)
    layer.build(x.shape)
    tf.function(lambda x: layer(x, training=True)[0, 0, 0])(x)
    np.testing.assert_allclose(layer.moving_mean, x.mean(dtype=float), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, x.var(dtype=float), rtol=1e-3)


def test_a_layer_that_is_not_trained_uses_the_moving_statistics():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    layer = BatchNormalization()
    layer.build(x.shape)
    layer.moving_mean.assign([1, 2, 3])
    expected = (x - [1, 2, 3]) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [1, 2, 3])
