import dataclasses

import cv2
import h5py
import keras
import numpy as np
import pytest

from lib.datasets.prepared_hdf5 import read_part
from lib.evaluation.predicted_images import predict_part, read_predictions, write_predictions
from lib.evaluation.scoring import PredictedImage
from lib.runtime.errors import UserError
from tests.conftest import tiny_configuration


def case(name: str, shape: tuple[int, int], **more) -> PredictedImage:
    generator = np.random.default_rng(len(name))
    return PredictedImage(
        name,
        f"patient of {name}",
        generator.random(shape, dtype=np.float32),
        generator.integers(2, size=shape, dtype=np.uint8),
        generator.integers(2, size=shape, dtype=np.uint8),
        generator.integers(256, size=(*shape, 3), dtype=np.uint8),
        **more,
    )


def test_predictions_are_read_as_written_and_in_order(tmp_path):
    second = np.ones((9, 7), np.uint8)
    cases = [case("b 眼", (9, 7), second_observer=second), case("a", (5, 12))]
    write_predictions(tmp_path / "p.hdf5", cases)
    for before, after in zip(cases, read_predictions(tmp_path / "p.hdf5"), strict=True):
        for field in dataclasses.fields(PredictedImage):
            np.testing.assert_array_equal(getattr(after, field.name), getattr(before, field.name))


def test_a_probability_that_is_not_finite_is_an_error_and_leaves_no_file(tmp_path):
    diverged = case("d", (3, 3))
    diverged.probability[1, 2] = np.nan
    with pytest.raises(UserError, match="d: the network predicts NaN"):
        write_predictions(tmp_path / "p.hdf5", [case("a", (5, 12)), diverged])
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file; run run_testing"):
        list(read_predictions(tmp_path / "p.hdf5"))
    (tmp_path / "p.hdf5").write_bytes(b"damaged")
    with pytest.raises(UserError, match="not readable"):
        list(read_predictions(tmp_path / "p.hdf5"))


def test_a_file_with_links_to_other_files_is_refused(tmp_path):
    file = tmp_path / "p.hdf5"
    with h5py.File(file, "w") as store:
        store["000000"] = h5py.ExternalLink("secret.hdf5", "/")
    with pytest.raises(UserError, match=r"p\.hdf5: not readable \(000000 is a link"):
        list(read_predictions(file))


def area_average(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean over the area of each of the larger pixels, from its overlap with the smaller ones."""

    def overlaps(size: int, smaller: int) -> np.ndarray:
        edges, small = np.linspace(0, smaller, size + 1), np.arange(smaller)
        ends = np.minimum(edges[1:, None], small + 1), np.maximum(edges[:-1, None], small)
        return np.maximum(ends[0] - ends[1], 0) * size / smaller

    rows, columns = (overlaps(*sides) for sides in zip(shape, image.shape, strict=True))
    return rows @ image @ columns.T


def bilinear(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Linear interpolation between the centres of the pixels, first down the columns, then along the rows."""
    for size in shape:
        centres = (np.arange(size) + 0.5) / size
        known = (np.arange(image.shape[0]) + 0.5) / image.shape[0]
        image = np.stack([np.interp(centres, known, line) for line in image.T])
    return image


@pytest.mark.parametrize("diameter", [50, 200])
def test_probabilities_of_resampled_images_have_the_stored_size(prepared, diameter):
    image = keras.Input((None, None, 2))
    layer = keras.layers.Conv2D(1, 1, use_bias=False)
    second_channel = keras.Model(image, layer(image))
    layer.set_weights([np.array([0, 1], np.float32).reshape(1, 1, 2, 1)])
    configuration = tiny_configuration(
        prepared, "preprocessing.channels=texture grey", f"preprocessing.field_of_view_diameter={diameter}"
    )
    settings = configuration.testing_settings
    cases = list(predict_part(second_channel.predict_on_batch, configuration, settings, "test"))
    stored = list(read_part(configuration.data_paths.hdf5("test")))
    assert cases and len(cases) == len(stored)
    for case, image in zip(cases, stored, strict=True):
        inside = np.nonzero(image.field_of_view)
        scale = diameter / max(np.ptp(i) + 1 for i in inside)
        height, width = image.field_of_view.shape
        there = (round(height * scale), round(width * scale))
        to, back = (area_average, bilinear) if scale < 1 else (bilinear, area_average)
        expected = back(to(image.original.astype(float), there), (height, width)) / 255
        assert case.probability.shape == (height, width)
        # Away from the border of the field of view, where the probability is that of the pixels inside.
        away = cv2.erode(image.field_of_view, np.ones((21, 21)), borderValue=0) > 0
        # The levels of the network are whole numbers.
        np.testing.assert_allclose(case.probability[away], expected[away], atol=0.6 / 255)
        assert away.mean() > 0.3


def test_only_test_images_have_the_angle_of_the_test(prepared):
    shapes = []

    def levels_seen(batch: np.ndarray) -> np.ndarray:
        shapes.append(max(batch.shape[1:3]))
        return batch

    settings = ["preprocessing.field_of_view_diameter=60", "preprocessing.channels=grey"]
    settings.append("testing settings.training_field_of_view_degrees=45")
    sizes = {}
    for part in ("validation", "test"):
        for degrees in ("", "30"):
            more = f"testing settings.test_field_of_view_degrees={degrees}"
            configuration = tiny_configuration(prepared, *settings, more, "testing settings.window=whole")
            list(predict_part(levels_seen, configuration, configuration.testing_settings, part, 1))
            sizes[part, degrees] = shapes.pop()
    assert sizes["validation", "30"] == sizes["validation", ""]
    assert sizes["test", "30"] == pytest.approx(sizes["test", ""] * 30 / 45, abs=1)
