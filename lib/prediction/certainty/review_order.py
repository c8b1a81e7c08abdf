"""review_order.csv: which outlines to correct first, so that a network that is trained further gains most."""

from collections.abc import Mapping, Sequence
from typing import Any

from lib.networks.trained_network import share_column
from lib.prediction.certainty.disagreement import DISAGREEMENT
from lib.prediction.measurement import Measurement

REVIEW_ORDER = "review_order.csv"

REVIEW_COLUMNS = ("rank", "image", "expected_gain", DISAGREEMENT, "share", "quality", "labelme_file")


def in_review_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `review_row` with their rank, largest expected gain first."""
    ordered = sorted(rows, key=lambda row: (-row["expected_gain"], row["image"]))
    return [{"rank": rank, **row} for rank, row in enumerate(ordered, 1)]


def expected_gain(measured: Measurement, share: str) -> float | None:
    """The mean disagreement times the highest plausible share of the field of view, from `uncertainty`.

    Large areas about which the views disagree come first. None if there is no disagreement.
    """
    disagreement, highest = measured.get(DISAGREEMENT), measured.get(f"{share}_high")
    if not isinstance(disagreement, float) or not isinstance(highest, float):
        return None
    return disagreement * highest


def review_row(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of an entry of the record; None if it has no disagreement (one view, or an earlier version)."""
    measured = entry["measurements"]
    if measured.get(DISAGREEMENT) is None:
        return None
    share = share_column(measured["structure"])
    gain = expected_gain(measured, share)
    if gain is None:
        return None
    return {
        "image": entry["image"],
        "expected_gain": gain,
        DISAGREEMENT: measured[DISAGREEMENT],
        "share": measured[share],
        "quality": measured["quality"],
        "labelme_file": entry["files"]["labelme"][0],
    }
