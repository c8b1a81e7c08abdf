"""What can be taken home of a result, at the threshold chosen: mask, overlay, LabelMe JSON, CSV."""

import csv
import json
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import PurePath

import numpy as np
from django import forms
from django.utils.translation import gettext_lazy as _
from PIL import Image

from lib.images.labelme import labelme_document
from lib.images.masks import binary_mask
from lib.images.outlines import draw_prediction
from lib.images.reading import read_image
from lib.prediction.measurement import measure
from web.models import Result


class ChoiceForm(forms.Form):
    """What the sliders and fields of the page say."""

    threshold = forms.FloatField(min_value=0, max_value=1)
    min_area_px = forms.IntegerField(min_value=0, max_value=10**9)
    pixel_spacing_mm = forms.FloatField(min_value=0.0001, max_value=1, required=False)
    fovea_row = forms.FloatField(min_value=0, required=False)
    fovea_column = forms.FloatField(min_value=0, required=False)

    def clean(self) -> dict:
        """Half a position is none."""
        cleaned = super().clean()
        if (cleaned.get("fovea_row") is None) != (cleaned.get("fovea_column") is None):
            raise forms.ValidationError(_("The fovea needs a row and a column."))
        return cleaned


@dataclass(frozen=True, eq=False)
class Measured:
    """A result at one threshold.

    Attributes:
        result: of the analysis.
        mask: (H, W) bool.
        field_of_view: (H, W) uint8 in {0, 1}.
        measurement: columns of `measurements.csv`.
        provenance: its last columns.
    """

    result: Result
    mask: np.ndarray
    field_of_view: np.ndarray
    measurement: dict[str, float | int | str | None]
    provenance: dict[str, float | int | str | None]


def measured(result: Result, choice: dict) -> Measured:
    """Measure a result as the page's controls stand (`ChoiceForm.cleaned_data`).

    Raises:
        UserError: the fovea lies outside the image.
    """
    probability, field_of_view = result.probability_and_field_of_view()
    mask = binary_mask(probability, field_of_view, choice["threshold"], choice["min_area_px"])
    given = choice["pixel_spacing_mm"]
    spacing = (given, given) if given else result.pixel_spacing_mm
    row, column = choice["fovea_row"], choice["fovea_column"]
    fovea = None if row is None else (row, column)
    measurement = measure(mask, probability, field_of_view, pixel_spacing_mm=spacing, fovea=fovea)
    provenance = result.provenance | {
        "threshold": choice["threshold"],
        "min_area_px": choice["min_area_px"],
        "pixel_spacing_mm": " ".join(f"{length:g}" for length in spacing) if spacing else None,
    }
    if provenance["threshold"] != result.provenance["threshold"]:
        provenance["threshold_source"] = "chosen on the web page"
    return Measured(result, mask, field_of_view, measurement, provenance)


def mask_png(measured: Measured) -> bytes:
    """White where the retina is not perfused."""
    return _png(measured.mask.astype(np.uint8) * 255)


def overlay_png(measured: Measured) -> bytes:
    """The picture with the outlines."""
    picture = read_image(measured.result.picture_file)
    return _png(draw_prediction(picture, measured.mask, measured.field_of_view))


def labelme_json(measured: Measured) -> bytes:
    """To be put beside the image and corrected; a DICOM file's picture is embedded."""
    result, image_png = measured.result, None
    image_path = result.file_name
    if result.is_dicom:  # which LabelMe does not read
        image_png = result.picture_file.read_bytes()
        image_path = f"{PurePath(image_path).stem}.png"
    document = labelme_document(measured.mask, result.label, image_path, image_png=image_png)
    return json.dumps(document, ensure_ascii=False).encode()


def measurements_csv(measured: Measured) -> bytes:
    """The row that run_prediction.py writes; the mark at its start makes spreadsheets read UTF-8."""
    values = {
        "image": _harmless(measured.result.file_name),
        **measured.measurement,
        **measured.provenance,
    }
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
"""Name in the address: (what is put behind the image's name, content type, what makes it)."""


def _harmless(text: str) -> str:
    """A spreadsheet would run a name that begins like a formula."""
    return f"'{text}" if text[:1] in "=+-@" else text


def _png(array: np.ndarray) -> bytes:
    data = BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return data.getvalue()
