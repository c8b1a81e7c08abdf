"""From the file of an angiogram to the probability of non-perfusion of each pixel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.configuration.banner import Banner
from lib.images.checked_files import dicom_functions
from lib.images.field_of_view import detect_field_of_view
from lib.images.info_banner import banner_to_cut, with_strip
from lib.images.preprocessing import SAME_SIZE, field_of_view_diameter, is_in_colour, preprocess
from lib.images.reading import read_image
from lib.networks.trained_network import TrainedNetwork, is_non_perfusion
from lib.prediction.certainty.disagreement import disagreement_map
from lib.prediction.sliding_window import at_stored_size, mean_of_views, predict_views
from lib.runtime.errors import UserError

SAME_SCALE = 1.25
"""A field of view larger or smaller than those of the training by this factor is of another scale."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of one file; all arrays have the size of the image in the file.

    Attributes:
        original: (H, W) or (H, W, 3) uint8, black in place of the information banner.
        field_of_view: (H, W) uint8 in {0, 1}, 0 on the banner.
        probability: (H, W) float32, 0 outside the field of view.
        pixel_spacing_mm: height and width of a pixel; None if they are not known.
        banner: the strip that was cut off before the prediction.
        disagreement: (H, W) float32, 0 outside the field of view, as of `disagreement_map`.
    """

    original: np.ndarray
    field_of_view: np.ndarray
    probability: np.ndarray
    pixel_spacing_mm: tuple[float, float] | None
    banner: Banner | None
    disagreement: np.ndarray | None = None


def predict_file(network: TrainedNetwork, path: Path) -> Prediction:
    """Read a file, cut its banner off, find its field of view, preprocess and predict.

    Raises:
        UserError: names the file and says why it cannot be read, that its field of view is empty or too
            small, that it shows two, that text may be burned into it, that it is not larger than the strip of
            `info_banner`, that it is a DICOM Segmentation, or that there is not enough memory.
    """
    try:
        return _predict_file(network, path)
    except UserError as error:
        message = str(error)
        if not message.startswith(f"{path}: "):  # settings and the network do not know the file
            message = f"{path}: {message}"
        raise UserError(message) from error


def _predict_file(network: TrainedNetwork, path: Path) -> Prediction:
    image = read_image(path, network.info_banner)
    if dicom := dicom_functions(path):
        dicom.refuse_segmentation(path)
    banner = banner_to_cut(image, path, network.info_banner)
    original = banner.cut(image) if banner else image
    field_of_view = detect_field_of_view(original, path)
    if not field_of_view.any():
        raise UserError(f"{path}: its field of view is empty (a black image?)")
    settings = network.testing_settings
    levels = preprocess(original, field_of_view, network.preprocessing, settings.relative_angle)
    views = predict_views(network.predict, levels, settings)
    probability = at_stored_size(mean_of_views(views), field_of_view, settings) * field_of_view
    disagreement = disagreement_map(views, field_of_view, settings.logit_shift)
    if banner:
        arrays = (original, field_of_view, probability)
        original, field_of_view, probability = (with_strip(array, banner) for array in arrays)
        disagreement = None if disagreement is None else with_strip(disagreement, banner)
    given = network.testing_settings.pixel_spacing_mm
    spacing = (given, given) if given else _pixel_spacing_mm(path)
    return Prediction(original, field_of_view, probability, spacing, banner, disagreement)


def differences_from_training(network: TrainedNetwork, prediction: Prediction) -> dict[str, str]:
    """How an image differs from those of the training: short name to sentence. Its result is less reliable.

    It may be in colour, or have another scale. With `[preprocessing] field_of_view_diameter` every image is
    resampled to the diameter of the training; for another angle, to its scale. Networks of earlier versions
    know neither; those of non-perfusion expect angiograms, which are grey.
    """
    seen, found = network.training_images, {}
    in_colour = is_in_colour(prediction.original, prediction.field_of_view)
    expects_grey = not seen.colour if seen else is_non_perfusion(network.structure)
    if in_colour and expects_grey:
        found["in colour"] = "it is in colour, but the network was trained on grey images"
    elif seen and seen.colour and not in_colour:
        found["grey"] = "it is grey, but the network was trained on images in colour"
    diameter = field_of_view_diameter(prediction.field_of_view)
    if resampled := network.preprocessing.field_of_view_diameter:
        resampled = round(resampled * network.testing_settings.relative_angle)
        if diameter < resampled * (1 - SAME_SIZE):
            found["few pixels"] = (
                f"its field of view is only {diameter} pixels across, and the network analyses {resampled}: "
                "use the original image"
            )
    elif seen:
        low, high = seen.smallest_diameter, seen.largest_diameter
        if not low / SAME_SCALE <= diameter <= high * SAME_SCALE:
            expected = f"{low}" if low == high else f"{low} to {high}"
            found["another scale"] = (
                f"the diameter of its field of view is {diameter} pixels, in the training {expected}: "
                "resize it to that scale"
            )
    return found


def _pixel_spacing_mm(path: Path) -> tuple[float, float] | None:
    """As `lib.images.formats.dicom.pixel_spacing_mm`; other files than DICOM give none."""
    dicom = dicom_functions(path)
    return dicom.pixel_spacing_mm(path) if dicom else None
