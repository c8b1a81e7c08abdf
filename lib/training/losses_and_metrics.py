"""Losses, accuracy and exact AUC-ROC.

In losses and accuracy, `y_true` is (N, h, w, 2 or 3) float32: the truth and the weight of each pixel, 0 or 1,
and the auxiliary truth, if any; `y_pred` is (N, h, w, 1): the probability.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from keras import ops

from models import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

SMOOTHING = 1.0
"""Added to numerator and denominator of the Dice coefficient: a batch without CNP has a gradient too."""


LOWEST_PROBABILITY = 1e-37
"""Lower limit of a probability in the cross-entropy; close to the smallest normal float32."""
HIGHEST_PROBABILITY = 1 - 2**-24
"""Its upper limit: the largest float32 below 1."""


def binary_crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean binary cross-entropy over the pixels of weight 1; 0 if there are none.

    Keras limits probabilities to 1e-7 and more. Below, there is no gradient if the sigmoid is not the last
    operation (ours are followed by a crop): a network whose probabilities all fall below 1e-7 in the first
    steps would never change again. Near 1, float32 sets the limit: from a logit of 17 on, the probability is
    1, without gradient.
    """
    truth, weight = y_true[..., :1], y_true[..., 1:2]
    probability = ops.cast(y_pred, "float32")
    foreground = truth * ops.log(ops.maximum(probability, LOWEST_PROBABILITY))
    background = (1 - truth) * ops.log1p(-ops.minimum(probability, HIGHEST_PROBABILITY))
    return _weighted_mean(-(foreground + background), weight)


def dice(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """1 - Dice coefficient of the batch (V-Net, Milletari et al. 2016, but with sums instead of squares)."""
    truth, weight = y_true[..., :1], y_true[..., 1:2]
    probability = ops.cast(y_pred, "float32")
    overlap = ops.sum(weight * truth * probability)
    total = ops.sum(weight * (truth + probability))
    return 1 - (2 * overlap + SMOOTHING) / (total + SMOOTHING)


def binary_crossentropy_and_dice(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """The sum of both losses."""
    return binary_crossentropy(y_true, y_pred) + dice(y_true, y_pred)


def binary_crossentropy_and_half_dice(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Binary cross-entropy plus half the Dice loss."""
    return binary_crossentropy(y_true, y_pred) + 0.5 * dice(y_true, y_pred)


LOSSES: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (binary_crossentropy, dice, binary_crossentropy_and_dice, binary_crossentropy_and_half_dice)
}


def auxiliary_crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """As `binary_crossentropy`, but against the auxiliary truth, channel 2 of `y_true`."""
    return binary_crossentropy(ops.concatenate([y_true[..., 2:], y_true[..., 1:2]], -1), y_pred)


def with_further_outputs(loss: Loss, further: Sequence[tuple[float, Loss]]) -> Loss:
    """`loss` of channel 0 of the prediction, plus weight times loss for each of the channels from 1."""

    def weighted_sum(y_true: Tensor, y_pred: Tensor) -> Tensor:
        total = loss(y_true, y_pred[..., :1])
        for channel, (weight, its_loss) in enumerate(further, 1):
            total = total + weight * its_loss(y_true, y_pred[..., channel : channel + 1])
        return total

    return weighted_sum


def per_replica(loss: Loss) -> Loss:
    """`loss` in shape (1,): Keras with TensorFlow averages vectors over devices, but sums scalars."""

    def vector(y_true: Tensor, y_pred: Tensor) -> Tensor:
        return ops.reshape(loss(y_true, y_pred), (1,))

    return vector


def accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Share of correct pixels, at threshold 0.5, among the pixels of weight 1."""
    correct = ops.equal(y_true[..., :1] > 0.5, y_pred[..., :1] >= 0.5)
    return _weighted_mean(ops.cast(correct, "float32"), y_true[..., 1:2])


def auc_roc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Exact area under the ROC curve, twenty times faster than by computing the curve.

    It is the share of pairs of a positive and a negative pixel in which the positive pixel has the higher
    score; equal scores count half (Mann-Whitney statistic; Hanley and McNeil, Radiology 143, 1982).

    Args:
        scores: (pixels,) finite floats.
        truth: (pixels,) bool, with positive and negative pixels.
    """
    positives, negatives = np.sort(scores[truth]), np.sort(scores[~truth])
    below, not_above = (
        np.searchsorted(negatives, positives, side).sum(dtype=np.int64) for side in ("left", "right")
    )
    return float((below + not_above) / (2 * positives.size * negatives.size))


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    return ops.sum(values * weight) / ops.maximum(ops.sum(weight), 1.0)
