"""Whether a network may compute in bfloat16: where that is faster, and its answers stay the same."""

from collections.abc import Mapping, Sequence

import numpy as np

from lib.evaluation.scoring import PredictedImage
from lib.training.losses_and_metrics import auc_roc

PRECISIONS = ("float32", "mixed_bfloat16")

LEAST_SPEED_UP = 1.1
"""Computers without bfloat16 imitate it, and are slower."""

DIFFERENCE, SHARE = 0.01, 0.99
"""At least this share of the probabilities must stay within the difference."""

AUC_DIFFERENCE = 0.0005


def choose_precision(
    predicted: Mapping[str, Sequence[PredictedImage]], seconds: Mapping[str, float]
) -> tuple[str, str]:
    """Choose from what each of `PRECISIONS` predicted of the same images, and how long it took.

    Returns:
        The precision, and why.
    """
    exact, rounded = ([_inside(c, c.probability) for c in predicted[p]] for p in PRECISIONS)
    exact, rounded = np.concatenate(exact), np.concatenate(rounded)
    truth = np.concatenate([_inside(c, c.truth) for c in predicted[PRECISIONS[0]]]) > 0
    speed_up = seconds[PRECISIONS[0]] / seconds[PRECISIONS[1]]
    alike = float(np.mean(np.abs(exact - rounded) <= DIFFERENCE))
    both_kinds = truth.any() and not truth.all()
    moved = abs(auc_roc(exact, truth) - auc_roc(rounded, truth)) if both_kinds else 0.0
    accepted = speed_up >= LEAST_SPEED_UP and alike >= SHARE and moved <= AUC_DIFFERENCE
    why = (
        f"on the validation images mixed_bfloat16 is {speed_up:.2f} times as fast, with {alike:.2%} of "
        f"the probabilities within {DIFFERENCE} and AUC-ROC {moved:.6f} away"
    )
    return PRECISIONS[accepted], why


def _inside(case: PredictedImage, values: np.ndarray) -> np.ndarray:
    return values[case.field_of_view > 0]
