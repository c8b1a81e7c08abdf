"""The scores of a test: written as text, JSON and CSV, and read from the JSON file."""

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tabulate import tabulate

from lib.configuration.experiment_folder import PER_IMAGE, PERFORMANCES
from lib.configuration.sections import Configuration
from lib.evaluation.connectivity import MEASURES as CONNECTIVITY_MEASURES
from lib.evaluation.connectivity import Connectivity
from lib.evaluation.measures.agreement import icc_interval, mean_squares
from lib.evaluation.measures.image_measures import MEASURES, ImageMeasures, index_pairs, summarise
from lib.evaluation.pixel_scores import RATES, Scores, defined, format_score
from lib.evaluation.scoring import Average, Evaluation, ImageScores, average
from lib.images.checked_files import file_sha256
from lib.runtime.atomic_files import read_json, written_atomically
from lib.runtime.errors import UserError

SCORE_FILES = ("performances.txt", PERFORMANCES, PER_IMAGE)
"""Names of the files that `write_performances` writes."""

SETTINGS, EPOCHS, IMAGES, OUTSIDE = "settings", "epochs", "tested split", "outside the field of view"
"""Titles of the lines with `Configuration.score_sha256`, with the number of trained epochs, with the split of
the tested images, and with what was done to the probabilities outside the field of view."""

ROWS = {
    "auc_roc": "AUC-ROC",
    "auc_pr": "AUC-PR (average precision)",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1 = Dice",
    "iou": "IoU = Jaccard",
    "mcc": "MCC",
    "threshold": "Threshold",
    "true_positives": "True positives",
    "false_positives": "False positives",
    "false_negatives": "False negatives",
    "true_negatives": "True negatives",
    "pixels": "Pixels",
}
"""The rows of the table: a field of `Scores`, and its title."""

ICC_INTERVAL = ("index_icc_low", "index_icc_high")
"""Names of the ends of the interval of the ICC."""

CONNECTIVITY_ROWS = {
    "components": "Components, predicted",
    "components_truth": "Components, truth",
    "connectivity": "Connectivity (C)",
    "area": "Area (A)",
    "length": "Length (L)",
    "cal": "CAL",
    "cl_dice": "clDice",
}


def write_performances(folder: Path, evaluation: Evaluation, context: Mapping[str, str]) -> None:
    """Write performances.txt, performances.json and per_image.csv; all three or none.

    A score that is not defined is "n/a" in the text and the table, null in the JSON.

    Args:
        folder: folder of the three files; made if it is missing.
        evaluation: the scores.
        context: title and value of lines above the scores, e.g. {"threshold": "0.5 (configuration)",
            "network": "enhance_laddernet", "weights": "FFA_best.weights.h5"}.
    """
    with written_atomically(*(folder / name for name in SCORE_FILES)) as (text, data, table):
        text.write_text(performances_text(evaluation, context), encoding="utf-8")
        data.write_text(
            json.dumps(_as_json(evaluation, context), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
        _write_per_image(table, evaluation)


def read_performances(file: Path) -> Evaluation:
    """Read performances.json; the curves are not stored in it and are None.

    Raises:
        UserError: the file is damaged or of another version.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        second = content["second_observer_in_field_of_view"]
        return Evaluation(
            threshold=content["threshold"],
            in_field_of_view=Scores(**content["network_in_field_of_view"]),
            whole_image=Scores(**content["network_on_whole_image"]),
            blurred_darkness=Scores(**content["blurred_darkness_in_field_of_view"]),
            all_background=Scores(**content["all_background_in_field_of_view"]),
            second_observer=Scores(**second) if second else None,
            per_image=tuple(
                ImageScores(
                    image["name"],
                    image["patient"],
                    Scores(**image["scores"]),
                    ImageMeasures.from_json(image["measures"]) if image.get("measures") else None,
                )
                for image in content["per_image"]
            ),
            connectivity=tuple(Connectivity(**one) for one in content["connectivity"]),
            averages={k: Average(**v) for k, v in content["averages_over_images"].items()},
            curves=None,
            darkness_curves=None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not the scores of this version ({error}); test again") from None


def is_test_of(file: Path, configuration: Configuration, epochs: int) -> bool:
    """Whether performances.json is of a test with these settings, after so many epochs, on the images there.

    The images are compared if they are still there, and not with tests of earlier versions, which do not name
    their images.
    """
    try:
        context = read_json(file, "test again").get("context")
    except UserError:  # missing or damaged
        return False
    here = described_split(configuration)
    return (
        isinstance(context, dict)
        and context.get(SETTINGS) == f"SHA-256 {configuration.score_sha256}"
        and str(context.get(EPOCHS)).split()[0] == str(epochs)
        and (here is None or context.get(IMAGES, here) == here)
        # Earlier versions did not set these probabilities to 0; without the images, no test can.
        and (here is None or OUTSIDE in context or not configuration.training_settings.loss_in_FOV)
    )


def described_split(configuration: Configuration) -> str | None:
    """The line of performances.txt on the tested images; None if their split is no longer there."""
    split = configuration.data_paths.tested_split
    return f"{split.name}, SHA-256 {file_sha256(split)}" if split.is_file() else None


def performances_text(evaluation: Evaluation, context: Mapping[str, str]) -> str:
    """The content of performances.txt: retina-unet's lines, then a table beside the baselines."""
    images = len(evaluation.per_image)
    return "\n".join(
        [
            f"FOV pixels pooled over {images} test image{'s' * (images != 1)}",
            *(f"{name}: {value}" for name, value in context.items()),
            "",
            *_retina_unet_lines(evaluation.in_field_of_view),
            "",
            *_table(evaluation),
            "",
            *_averages(evaluation),
            "",
            *_measures(evaluation),
            *_connectivity(evaluation),
        ]
    )


def _retina_unet_lines(scores: Scores) -> list[str]:
    confusion = (
        f"[[{scores.true_negatives} {scores.false_positives}] "
        f"[{scores.false_negatives} {scores.true_positives}]]"
    )
    return [
        f"Area under the ROC curve: {format_score(scores.auc_roc)}",
        f"Area under Precision-Recall curve: {format_score(scores.auc_pr)}",
        f"Jaccard similarity score: {format_score(scores.iou)}   "
        "(TP / (TP + FP + FN); in retina-unet this line held the accuracy)",
        f"F1 score (F-measure): {format_score(scores.f1)}",
        "",
        f"Confusion matrix: {confusion}   ([[TN FP] [FN TP]])",
        f"ACCURACY: {format_score(scores.accuracy)}",
        f"SENSITIVITY: {format_score(scores.sensitivity)}",
        f"SPECIFICITY: {format_score(scores.specificity)}",
        f"PRECISION: {format_score(scores.precision)}",
    ]


def _table(evaluation: Evaluation) -> list[str]:
    columns = {
        "network, FOV": evaluation.in_field_of_view,
        "network, whole image": evaluation.whole_image,
        "blurred darkness, FOV": evaluation.blurred_darkness,
        "all background, FOV": evaluation.all_background,
    }
    if evaluation.second_observer:
        columns["human (second observer), FOV"] = evaluation.second_observer
    lines = [["", *columns]]
    lines += [
        [title, *(format_score(getattr(scores, field)) for scores in columns.values())]
        for field, title in ROWS.items()
    ]
    return [
        "Pooled pixels. The whole image counts the dark surround as easy negatives:",
        "quote the figures of the field of view (FOV).",
        "",
        *_aligned(lines),
    ]


def _averages(evaluation: Evaluation) -> list[str]:
    lines = [["", "mean", "sd", "images"]]
    for rate in RATES:
        average = evaluation.averages[rate]
        lines.append([ROWS[rate], *_mean_and_sd(average), f"{average.images} of {len(evaluation.per_image)}"])
    return [
        "Per image, FOV: mean and sample standard deviation over the images where the score is",
        "defined (an image without a positive pixel has no AUC, and so on).",
        "",
        *_aligned(lines),
    ]


def measures_of(evaluation: Evaluation) -> dict[str, float | None]:
    """The `MEASURES` of all images, and both ends of the 95 % interval of the ICC; None: not defined."""
    images = [image.measures for image in evaluation.per_image if image.measures]
    everyone = np.ones(len(images))
    values = dict(zip(MEASURES, summarise(images, everyone), strict=True)) if images else {}
    pairs = index_pairs([image for image in images if image.index is not None])
    ends = icc_interval(mean_squares(pairs, np.ones(len(pairs))))
    values |= zip(ICC_INTERVAL, ends, strict=True)
    return {name: defined(value) for name, value in values.items()}


def _measures(evaluation: Evaluation) -> list[str]:
    values = measures_of(evaluation)
    ends = [format_score(values.pop(name)) for name in ICC_INTERVAL]
    images = [image.measures for image in evaluation.per_image if image.measures]
    # One definition for all tolerances: NSD is not defined if both masks are empty, as HD95.
    known = sum(image.hd95 is not None for image in images)
    counted = f", mean of {known} of {len(images)} images" if known < len(images) else ""
    lines = [
        [MEASURES[name] + counted * name.startswith(("nsd", "hd95")), format_score(value)]
        for name, value in values.items()
        if value is not None
    ]
    if not lines:
        return []
    if values["index_icc"] is not None:
        lines.append(["95 % interval of ICC(2,1)", f"{ends[0]} to {ends[1]}"])
    return [
        "Boundaries, single areas and index (share of the FOV), at the threshold; definitions in",
        "docs/reference/scores.md. Measures that are not defined are left out.",
        "",
        *_aligned(lines),
        "",
    ]


def _connectivity(evaluation: Evaluation) -> list[str]:
    if not evaluation.connectivity:
        return []
    lines = [["", "mean", "sd", "images"]]
    for name in ("components", "components_truth", *CONNECTIVITY_MEASURES):
        mean, images = average(evaluation.connectivity, name), len(evaluation.connectivity)
        lines.append([CONNECTIVITY_ROWS[name], *_mean_and_sd(mean), f"{mean.images} of {images}"])
    return [
        "Connectivity of the vessels, per image, FOV: components; CAL = connectivity * area * length",
        "(Gegúndez-Arias et al. 2012); clDice (Shit et al. 2021).",
        "",
        *_aligned(lines),
        "",
    ]


def _mean_and_sd(average: Average) -> list[str]:
    return [format_score(average.mean), f"± {format_score(average.standard_deviation)}"]


def _aligned(lines: list[list[str]]) -> list[str]:
    align = ("left", *["right"] * (len(lines[0]) - 1))
    table = tabulate(lines, tablefmt="plain", disable_numparse=True, colalign=align)
    return [line.rstrip() for line in table.splitlines()]


def _as_json(evaluation: Evaluation, context: Mapping[str, str]) -> dict:
    values = dataclasses.asdict(evaluation)
    return {
        "context": dict(context),
        "images": len(evaluation.per_image),
        "threshold": evaluation.threshold,
        "network_in_field_of_view": values["in_field_of_view"],
        "network_on_whole_image": values["whole_image"],
        "blurred_darkness_in_field_of_view": values["blurred_darkness"],
        "all_background_in_field_of_view": values["all_background"],
        "second_observer_in_field_of_view": values["second_observer"],
        "averages_over_images": values["averages"],
        "measures": measures_of(evaluation),
        "connectivity": values["connectivity"],
        "per_image": values["per_image"],
    }


def _write_per_image(file: Path, evaluation: Evaluation) -> None:
    # Excel reads the names as UTF-8 only with a byte order mark.
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        fields = [field.name for field in dataclasses.fields(Scores)]
        rows = [
            {field: getattr(image.scores, field) for field in fields}
            | (image.measures.columns() if image.measures else {})
            for image in evaluation.per_image
        ]
        writer.writerow(["name", "patient", *rows[0]])
        for image, row in zip(evaluation.per_image, rows, strict=True):
            values = ("n/a" if value is None else value for value in row.values())
            writer.writerow([image.name, image.patient, *values])
