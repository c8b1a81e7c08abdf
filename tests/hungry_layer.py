"""A layer that truly runs out of memory where a batch has too many images."""

import keras
import numpy as np
import tensorflow as tf  # noqa: TID251


class Hungry(keras.layers.Layer):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def call(self, images):
        # In numpy, whose failure becomes TensorFlow's own: its allocator would try for ten seconds.
        eaten = tf.numpy_function(self._eat, [tf.shape(images)[0]], tf.float32)
        return images + tf.stop_gradient(tf.reshape(eaten, ()))

    def _eat(self, number):
        return np.zeros(10**15 if number > self.most else 1, np.float32)[0]


def hungry(model: keras.Model, most: int) -> keras.Model:
    """The same network, of batches of at most so many images."""
    return keras.Model(model.input, Hungry(most)(model.output), name=model.name)
