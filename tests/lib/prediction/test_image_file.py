import dataclasses

import numpy as np
import pytest

from lib.images.png import write_png
from lib.networks.trained_network import TrainingImages
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.prediction.image_file import Prediction, differences_from_training
from tests.lib.prediction.test_folder import CONFIGURATION, network, rows_of

COLOUR = np.array([1, 0.6, 0.3])


def network_of(images, *, structure="CNP", diameter=0):
    preprocessing = dataclasses.replace(CONFIGURATION.preprocessing, field_of_view_diameter=diameter)
    changes = {"training_images": images, "structure": structure, "preprocessing": preprocessing}
    return dataclasses.replace(network(), **changes)


def prediction(diameter=100, *, colour=False):
    rows, columns = np.ogrid[: diameter + 20, : diameter + 20]
    centre = (diameter + 19) / 2
    inside = (rows - centre) ** 2 + (columns - centre) ** 2 <= (diameter / 2) ** 2
    image = (inside * 150).astype(np.uint8)
    if colour:
        image = (image[..., None] * COLOUR).astype(np.uint8)
    return Prediction(image, inside.astype(np.uint8), inside.astype(np.float32), None, None)


GREY, COLOURED = TrainingImages(100, 120, colour=False), TrainingImages(100, 120, colour=True)


@pytest.mark.parametrize(
    ("seen", "shown", "said"),
    [
        (GREY, prediction(100), None),
        (GREY, prediction(84), None),
        (GREY, prediction(148), None),
        (GREY, prediction(70), "is 70 pixels, in the training 100 to 120"),
        (GREY, prediction(600), "is 600 pixels, in the training 100 to 120"),
        (
            TrainingImages(300, 300, colour=False),
            prediction(100),
            "is 100 pixels, in the training 300: resize",
        ),
        (GREY, prediction(colour=True), "in colour, but the network was trained on grey images"),
        (COLOURED, prediction(colour=True), None),
        (COLOURED, prediction(), "is grey, but the network was trained on images in colour"),
        (None, prediction(colour=True), "in colour"),  # an older network of non-perfusion
        (None, prediction(600), None),
    ],
)
def test_scale_and_colour_that_differ_from_the_training_are_said(seen, shown, said):
    found = differences_from_training(network_of(seen), shown)
    assert found == {} if said is None else said in "".join(found.values())


def test_an_older_network_of_vessels_may_be_for_photographs():
    assert differences_from_training(network_of(None, structure="vessels"), prediction(colour=True)) == {}


def test_an_image_that_is_resampled_has_the_scale_of_the_training():
    assert differences_from_training(network_of(GREY, diameter=100), prediction(600)) == {}


def test_an_image_without_the_details_that_the_network_analyses_is_named():
    found = differences_from_training(network_of(GREY, diameter=100), prediction(20))
    assert found["few pixels"].startswith(
        "its field of view is only 20 pixels across, and the network analyses 100"
    )
    assert differences_from_training(network_of(GREY, diameter=101), prediction(100)) == {}  # not resampled


def test_an_image_of_another_angle_needs_fewer_pixels():
    of_45_degrees = network_of(GREY, diameter=100)
    degrees = {"training_field_of_view_degrees": 45, "test_field_of_view_degrees": 30}
    settings = dataclasses.replace(of_45_degrees.testing_settings, **degrees)
    of_30_degrees = dataclasses.replace(of_45_degrees, testing_settings=settings)
    assert differences_from_training(of_45_degrees, prediction(70)) != {}
    assert differences_from_training(of_30_degrees, prediction(70)) == {}


def test_run_prediction_prints_a_line_for_each_image_that_differs(tmp_path, capsys):
    for name, shown in (("a", prediction(70)), ("b", prediction(110)), ("c", prediction(110, colour=True))):
        write_png(tmp_path / f"{name}.png", shown.original)
    table, _ = predict_images(
        network_of(GREY), find_images([tmp_path], tmp_path / "out"), tmp_path / "out", {}
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(tmp_path / "a.png"), str(tmp_path / "c.png")]
    assert [bool(row["differs_from_training"]) for row in rows_of(table)] == [True, False, True]


def test_the_table_and_the_label_of_another_structure_have_its_names(tmp_path):
    write_png(tmp_path / "a.png", prediction().original)
    vessels = dataclasses.replace(network_of(None, structure="vessels"), label="vessels")
    table, _ = predict_images(vessels, find_images([tmp_path], tmp_path / "out"), tmp_path / "out", {})
    (row,) = rows_of(table)
    assert "area_fraction" in row and not [name for name in row if "ischaemic" in name]
    assert row["structure"] == "vessels"
