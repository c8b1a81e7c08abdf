import numpy as np
import pytest

from lib.datasets.prepared_hdf5 import PreparedImage, write_part
from lib.evaluation.scoring import PredictedImage, blurred_darkness
from lib.evaluation.validation_choices import choose_precision, darkness_threshold_for
from tests.conftest import tiny_configuration

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.random((40, 50)) < 0.2
EXACT = np.clip(0.3 * TRUTH + GENERATOR.random(TRUTH.shape) * 0.6, 0, 1).astype(np.float32)
SECONDS = {"float32": 2.0, "mixed_bfloat16": 1.0}


def image(probability, truth=TRUTH, field_of_view=None):
    if field_of_view is None:
        field_of_view = np.ones_like(truth)
    return PredictedImage("a", "a", probability, truth, field_of_view, probability)


def both(rounded, **more):
    return {"float32": [image(EXACT, **more)], "mixed_bfloat16": [image(rounded, **more)]}


def test_bfloat16_is_chosen_if_it_is_faster_and_similar():
    chosen, why = choose_precision(both(EXACT + np.float32(0.004)), SECONDS)
    assert chosen == "mixed_bfloat16"
    assert "2.00 times as fast; 100.00% of" in why


def test_one_pixel_of_a_hundred_may_differ_and_not_more():
    for changed, expected in ((20, "mixed_bfloat16"), (21, "float32")):
        rounded = EXACT.copy()
        rounded.flat[:changed] += 0.02
        assert choose_precision(both(rounded), SECONDS)[0] == expected


def test_pixels_outside_the_field_of_view_do_not_count():
    field_of_view = np.ones_like(TRUTH)
    field_of_view[:, 25:] = False
    rounded = np.where(field_of_view, EXACT, 1 - EXACT)
    chosen, _ = choose_precision(both(rounded, field_of_view=field_of_view), SECONDS)
    assert chosen == "mixed_bfloat16"


def test_another_order_of_the_pixels_is_refused():
    # Steps of .008, each within the tolerance, that reverse the order of a fine gradient.
    truth = np.arange(1000).reshape(20, 50) % 2 > 0
    exact = (0.5 + 0.004 * truth).astype(np.float32)
    rounded = (0.504 - 0.004 * truth).astype(np.float32)
    predicted = {"float32": [image(exact, truth)], "mixed_bfloat16": [image(rounded, truth)]}
    chosen, why = choose_precision(predicted, SECONDS)
    assert chosen == "float32" and "AUC-ROC differs by 1.000000" in why


@pytest.mark.parametrize("seconds", [1.9, 2.5])
def test_bfloat16_is_not_chosen_if_it_is_not_faster(seconds):
    chosen, _ = choose_precision(both(EXACT), SECONDS | {"mixed_bfloat16": seconds})
    assert chosen == "float32"


def pack_dark_areas(configuration, part, grey):
    """One image whose truth is the area darker than `grey`; the brightness rises from left to right."""
    original = np.tile(np.linspace(0, 255, 60).round().astype(np.uint8), (50, 1))
    truth = (original < grey).astype(np.uint8)
    field_of_view = np.ones_like(truth)
    field_of_view[:10] = 0
    truth[:10] = 1 - truth[:10]  # outside the field of view
    files = configuration.data_paths.hdf5(part)
    files[0].parent.mkdir(exist_ok=True)
    write_part(files, [PreparedImage("a", "a", original, truth, field_of_view)], (1, 50, 60, 1))
    inside = blurred_darkness(original)[10:], truth[10:] > 0
    return inside[0][inside[1]].min()  # separates the two classes without error


def test_the_threshold_of_darkness_is_that_of_the_validation_images(tmp_path):
    configuration = tiny_configuration(tmp_path)
    for part, grey in (("train", 40), ("test", 200)):
        pack_dark_areas(configuration, part, grey)
    assert darkness_threshold_for(configuration) is None
    expected = pack_dark_areas(configuration, "validation", 120)
    assert darkness_threshold_for(configuration) == pytest.approx(expected, abs=2e-3)
