"""The choice of bfloat16 for prediction: only if it is faster and gives the same probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np

from lib.evaluation.scoring import PredictedImage
from lib.training.losses_and_metrics import auc_roc

PRECISIONS = FLOAT32, BFLOAT16 = ("float32", "mixed_bfloat16")

LEAST_SPEED_UP = 1.1
"""Computers without bfloat16 emulate it and are slower."""

DIFFERENCE, SHARE = 0.01, 0.99
"""At least this share of the probabilities must differ by at most `DIFFERENCE`."""

AUC_DIFFERENCE = 0.0005


def choose_precision(
    predicted: Mapping[str, Sequence[PredictedImage]], seconds: Mapping[str, float]
) -> tuple[str, str]:
    """Choose from the predictions of the same images in each of `PRECISIONS`, and from their times.

    Returns:
        The precision, and the reason.
    """
    exact = np.concatenate([_inside(c, c.probability) for c in predicted[FLOAT32]])
    rounded = np.concatenate([_inside(c, c.probability) for c in predicted[BFLOAT16]])
    truth = np.concatenate([_inside(c, c.truth) for c in predicted[FLOAT32]]) > 0
    speed_up = seconds[FLOAT32] / seconds[BFLOAT16]
    similar = float(np.mean(np.abs(exact - rounded) <= DIFFERENCE))
    both_classes = truth.any() and not truth.all()
    change = abs(auc_roc(exact, truth) - auc_roc(rounded, truth)) if both_classes else 0.0
    accepted = speed_up >= LEAST_SPEED_UP and similar >= SHARE and change <= AUC_DIFFERENCE
    reason = (
        f"on the validation images, {BFLOAT16} is {speed_up:.2f} times as fast; {similar:.2%} of the "
        f"probabilities differ by at most {DIFFERENCE}, and AUC-ROC differs by {change:.6f}"
    )
    return BFLOAT16 if accepted else FLOAT32, reason


def _inside(case: PredictedImage, values: np.ndarray) -> np.ndarray:
    return values[case.field_of_view > 0]
