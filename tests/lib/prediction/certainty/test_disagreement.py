import numpy as np
import pytest

from lib.prediction.certainty.disagreement import disagreement_map, disagreement_picture, uncertainty

INSIDE = np.ones((4, 5), np.uint8)


def test_the_map_is_the_standard_deviation_of_the_views_inside_the_field_of_view():
    views = np.random.default_rng(0).random((3, 4, 5), np.float32)
    inside = INSIDE.copy()
    inside[0] = 0
    found = disagreement_map(views, inside, 0)
    np.testing.assert_allclose(found[1:], views.std(axis=0)[1:], rtol=1e-5)
    assert not found[0].any() and found.dtype == np.float32


def test_the_map_has_the_stored_size_and_views_that_agree_give_zero():
    assert disagreement_map(np.full((2, 4, 5), 0.3, np.float32), np.ones((8, 10), np.uint8), 0.3).max() < 1e-6
    views = np.stack([np.zeros((4, 5), np.float32), np.ones((4, 5), np.float32)])
    found = disagreement_map(views, np.ones((8, 10), np.uint8), 0)
    np.testing.assert_allclose(found, np.full((8, 10), 0.5), rtol=1e-6)
    assert (disagreement_picture(found) == 255).all()


def test_a_single_view_has_no_disagreement():
    assert disagreement_map(np.zeros((1, 4, 5), np.float32), INSIDE, 0) is None
    columns = uncertainty(np.zeros((4, 5)), None, INSIDE, 0.5, 0, "area_fraction")
    assert columns == dict.fromkeys(["area_fraction_low", "area_fraction_high", "disagreement"])


def test_range_and_mean_disagreement_of_known_pixels():
    """Ten pixels in the field of view; the threshold is .5, and the range three standard deviations."""
    probability = np.array([[0.9, 0.9, 0.6, 0.45, 0.3], [0.1, 0.1, 0, 0, 0]])
    disagreement = np.array([[0.1, 0.2, 0.1, 0.1, 0.1], [0.0, 0.1, 0, 0, 0]])
    found = uncertainty(probability, disagreement, np.ones((2, 5), np.uint8), 0.5, 0)
    assert found == pytest.approx(
        {
            "ischaemic_index_low": 0.1,  # .9 - .3
            "ischaemic_index_high": 0.5,  # also .45 + .3 and .3 + .3
            "disagreement": (0.1 + 0.2 + 0.1 + 0.1) / 4,  # not .3 + .1
        }
    )


def test_pixels_outside_the_field_of_view_and_small_areas_do_not_count():
    probability, disagreement = np.ones((4, 5)), np.full((4, 5), 0.1)
    inside = INSIDE.copy()
    inside[:, 2:] = 0
    disagreement[:, 2:] = 9
    found = uncertainty(probability, disagreement, inside, 0.5, 8)
    assert found["ischaemic_index_low"] == found["ischaemic_index_high"] == 1
    assert found["disagreement"] == pytest.approx(0.1)
    assert uncertainty(probability, disagreement, inside, 0.5, 9)["ischaemic_index_high"] == 0


def test_nothing_near_the_threshold_is_certain():
    found = uncertainty(np.zeros((4, 5)), np.full((4, 5), 0.1), INSIDE, 0.5, 0)
    assert found == {"ischaemic_index_low": 0, "ischaemic_index_high": 0, "disagreement": 0}
