import numpy as np
import pytest

from lib.prediction.measurement import QUADRANTS, RINGS_MM, area_sizes, measure, sectors
from lib.runtime.errors import UserError

INSIDE = np.ones((40, 60), np.uint8)


def test_areas_worked_by_hand():
    mask = np.zeros((40, 60), bool)
    mask[2:6, 3:13] = True  # 40 pixels
    mask[20:25, 30:33] = True  # 15
    mask[39, 59] = True  # 1
    field_of_view = INSIDE.copy()
    field_of_view[:, 58] = 0  # 2360 remain
    probability = np.where(mask, 0.8, 0.1).astype(np.float32)
    found = measure(mask, probability, field_of_view, pixel_spacing_mm=(0.01, 0.02))
    assert found["area_px"] == 56 and found["field_of_view_px"] == 2360
    assert found["area_mm2"] == pytest.approx(56 * 0.0002)
    assert found["ischaemic_index"] == pytest.approx(56 / 2360)
    assert (found["number_of_areas"], found["largest_area_px"]) == (3, 40)
    assert area_sizes(mask) == [40, 15, 1]
    assert found["mean_probability"] == pytest.approx(0.8)
    assert found["ischaemic_index_superior"] is None and found["fovea_row"] is None


def test_without_spacing_there_are_no_square_millimetres_and_no_rings():
    mask = np.zeros((40, 60), bool)
    mask[0, 0] = True
    found = measure(mask, mask.astype(np.float32), INSIDE, fovea=(20, 30))
    assert found["area_mm2"] is None
    assert all(found[f"ischaemic_index_{ring}"] is None for ring in RINGS_MM)
    assert [found[f"area_px_{q}"] for q in QUADRANTS] == [0, 0, 1, 0]  # farther left than up


@pytest.mark.parametrize("nothing", [np.zeros((40, 60), np.uint8), INSIDE])
def test_undefined_values_are_none(nothing):
    found = measure(np.zeros((40, 60), bool), np.zeros((40, 60), np.float32), nothing)
    assert found["area_px"] == found["largest_area_px"] == 0 and found["mean_probability"] is None
    assert found["ischaemic_index"] == (0 if nothing.any() else None)


def test_diagonals_through_the_fovea_separate_the_quadrants():
    found = sectors((41, 41), (20, 20), None)
    assert sum(found[q].astype(int) for q in QUADRANTS).min() == 1
    assert sum(found[q].astype(int) for q in QUADRANTS).max() == 1
    assert found["superior"][0, 20] and found["inferior"][40, 20]
    assert found["left"][20, 0] and found["right"][20, 40]
    # Pixels are twice as high as wide: the diagonal pixel lies farther up than left.
    assert sectors((41, 41), (20, 20), (0.02, 0.01))["superior"][10, 10]


def test_rings_have_the_areas_of_the_ETDRS_grid():
    spacing = 0.01
    found = sectors((801, 801), (400, 400), (spacing, spacing))
    for name, (nearest, farthest) in RINGS_MM.items():
        square_mm = np.pi * (farthest**2 - nearest**2)
        assert found[name].sum() * spacing**2 == pytest.approx(square_mm, rel=5e-3)


def test_shares_of_sectors_count_only_the_field_of_view():
    mask, field_of_view = np.zeros((40, 60), bool), INSIDE.copy()
    mask[:5] = True
    field_of_view[:3] = 0
    found = measure(mask & (field_of_view > 0), np.ones((40, 60)), field_of_view, fovea=(20, 30))
    superior = sectors((40, 60), (20, 30), None)["superior"]
    assert found["area_px_superior"] == (superior[3:5]).sum()
    assert found["ischaemic_index_superior"] == superior[3:5].sum() / superior[3:].sum()


def test_a_fovea_outside_the_image_is_an_error():
    with pytest.raises(UserError, match="row 40 and column 3, lies outside the image of 40 rows"):
        measure(np.zeros((40, 60), bool), np.zeros((40, 60)), INSIDE, fovea=(40, 3))
