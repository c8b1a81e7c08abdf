"""Downloads of a result at the chosen threshold: mask, overlay, LabelMe JSON, CSV."""

import csv
import json
from dataclasses import dataclass
from io import StringIO
from pathlib import PurePath

import numpy as np
from django import forms
from django.utils.translation import gettext_lazy as _

from lib.figures.prediction_overlay import draw_prediction
from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.png import encode_png
from lib.images.reading import image_name, read_image
from lib.networks.trained_network import share_column
from lib.prediction.certainty.disagreement import uncertainty
from lib.prediction.measurement import measure
from lib.prediction.measurements_table import not_a_formula
from web.corrections import corrected, read_correction
from web.models import Result


class ChoiceForm(forms.Form):
    """Settings that the user chose with the sliders and fields of the page."""

    threshold = forms.FloatField(label=_("Threshold"), min_value=0, max_value=1)
    min_area_px = forms.IntegerField(label=_("Smallest area, pixels"), min_value=0, max_value=10**9)
    pixel_spacing_mm = forms.FloatField(
        label=_("Pixel spacing, mm"), min_value=0.0001, max_value=1, required=False
    )
    fovea_row = forms.FloatField(label=_("Row"), min_value=0, required=False)
    fovea_column = forms.FloatField(label=_("Column"), min_value=0, required=False)
    correction = forms.CharField(required=False)
    """ETag of the correction that the page shows."""

    def clean(self) -> dict:
        """Check that the fovea has both coordinates or none."""
        cleaned = super().clean()
        if (cleaned.get("fovea_row") is None) != (cleaned.get("fovea_column") is None):
            raise forms.ValidationError(_("The fovea needs a row and a column."))
        return cleaned


@dataclass(frozen=True, eq=False)
class MeasuredResult:
    """The mask and measurements of a result at one threshold.

    Attributes:
        result: row of the database.
        mask: (H, W) bool, corrected by hand.
        field_of_view: (H, W) uint8 in {0, 1}.
        threshold: a pixel of the mask has at least this probability.
        pixel_spacing_mm: height and width of a pixel; None if they are not known.
        measurement: first columns of `measurements.csv`.
        provenance: last columns of `measurements.csv`.
    """

    result: Result
    mask: np.ndarray
    field_of_view: np.ndarray
    threshold: float
    pixel_spacing_mm: tuple[float, float] | None
    measurement: dict[str, float | int | str | None]
    provenance: dict[str, float | int | str | None]


def measure_result(result: Result, choice: dict) -> MeasuredResult:
    """Measure a result with the settings of `ChoiceForm.cleaned_data` and the correction by hand.

    Raises:
        UserError: the fovea is outside the image.
        Refused: 412 if the outline was corrected in another tab.
    """
    probability, field_of_view = result.probability_and_field_of_view()
    predicted = binary_mask(probability, field_of_view, choice["threshold"], choice["min_area_px"])
    mask = corrected(predicted, read_correction(result, choice["correction"]), field_of_view)
    given = choice["pixel_spacing_mm"]
    spacing = (given, given) if given else result.pixel_spacing_mm
    row, column = choice["fovea_row"], choice["fovea_column"]
    fovea = None if row is None else (row, column)
    share = share_column(result.provenance["structure"])
    measurement = measure(
        mask, probability, field_of_view, pixel_spacing_mm=spacing, fovea=fovea, share=share
    )
    corrected_px = int(np.count_nonzero(mask != predicted))
    measurement |= uncertainty(
        probability,
        None if corrected_px else result.disagreement(),  # the range is that of the network's mask
        field_of_view,
        choice["threshold"],
        choice["min_area_px"],
        share,
    )
    provenance = result.provenance | {
        "threshold": choice["threshold"],
        "min_area_px": choice["min_area_px"],
        "corrected_px": corrected_px,
        "pixel_spacing_mm": " ".join(f"{length:g}" for length in spacing) if spacing else None,
    }
    if provenance["threshold"] != result.provenance["threshold"]:
        provenance["threshold_source"] = "chosen on the web page"
    return MeasuredResult(result, mask, field_of_view, choice["threshold"], spacing, measurement, provenance)


def mask_png(measured: MeasuredResult) -> bytes:
    """The mask as PNG: 255 in non-perfused areas, else 0."""
    return encode_png(measured.mask.astype(np.uint8) * 255)


def overlay_png(measured: MeasuredResult) -> bytes:
    """The overlay of `run_prediction.py`, as PNG."""
    overlay = draw_prediction(
        read_image(measured.result.picture_file),
        measured.mask,
        measured.field_of_view,
        threshold=measured.threshold,
        share_column=share_column(measured.result.provenance["structure"]),
        pixel_spacing_mm=measured.pixel_spacing_mm,
    )
    return encode_png(overlay)


def labelme_json(measured: MeasuredResult) -> bytes:
    """Annotation to correct in LabelMe. It contains the picture: two images may have one file name."""
    result = measured.result
    image_path, image_png = result.file_name, result.picture_file.read_bytes()
    if result.is_dicom:  # LabelMe cannot read it
        image_path = f"{image_name(PurePath(image_path))}.png"
    document = labelme_document(measured.mask, result.label, image_path, image_png=image_png)
    return json.dumps(document, ensure_ascii=False).encode()


def measurements_csv(measured: MeasuredResult) -> bytes:
    """Header and row as run_prediction.py writes them; with a BOM, spreadsheets read the text as UTF-8."""
    cells = {"image": measured.result.file_name, **measured.measurement, **measured.provenance}
    values = {key: not_a_formula(cell) if isinstance(cell, str) else cell for key, cell in cells.items()}
    text = StringIO()
    writer = csv.DictWriter(text, list(values))
    writer.writeheader()
    writer.writerow(values)
    return text.getvalue().encode("utf-8-sig")


DOWNLOADS = {
    "mask": ("_mask.png", "image/png", mask_png),
    "overlay": ("_overlay.png", "image/png", overlay_png),
    "labelme": (".json", "application/json", labelme_json),
    "measurements": ("_measurements.csv", "text/csv", measurements_csv),
}
"""Name in the URL: (suffix of the file name, content type, function that makes the content)."""
