"""review_order.csv: which outlines to correct first, so that a network that is trained further gains most."""

from collections.abc import Mapping, Sequence
from typing import Any

from lib.networks.trained_network import share_column
from lib.prediction.certainty.disagreement import DISAGREEMENT

REVIEW_ORDER = "review_order.csv"

REVIEW_COLUMNS = ("rank", "image", "expected_gain", DISAGREEMENT, "share", "quality", "labelme_file")


def in_review_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `review_row` with their rank, largest expected gain first."""
    ordered = sorted(rows, key=lambda row: (-row["expected_gain"], row["image"]))
    return [{"rank": rank, **row} for rank, row in enumerate(ordered, 1)]


def review_row(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of an entry of the record; None if it has no disagreement (one view, or an earlier version).

    The expected gain is the mean disagreement times the highest plausible share of the field of view: large
    areas about which the views disagree come first.
    """
    measured = entry["measurements"]
    disagreement = measured.get(DISAGREEMENT)
    if disagreement is None:
        return None
    share = share_column(measured["structure"])
    return {
        "image": entry["image"],
        "expected_gain": disagreement * measured[f"{share}_high"],
        DISAGREEMENT: disagreement,
        "share": measured[share],
        "quality": measured["quality"],
        "labelme_file": entry["files"]["labelme"][0],
    }
