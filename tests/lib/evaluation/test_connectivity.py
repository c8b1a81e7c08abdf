import numpy as np
import pytest

from lib.evaluation.connectivity import measure_connectivity


@pytest.fixture
def line():
    mask = np.zeros((30, 60), bool)
    mask[14:17, 5:55] = True
    return mask


def test_all_measures_of_a_perfect_prediction_are_1(line):
    result = measure_connectivity(line, line)
    assert (result.components, result.components_truth) == (1, 1)
    assert (result.connectivity, result.area, result.length, result.cal, result.cl_dice) == (1,) * 5


def test_gaps_reduce_connectivity_by_the_number_of_components(line):
    cut = line.copy()
    cut[:, 20:22] = cut[:, 40:42] = False
    result = measure_connectivity(cut, line)
    assert (result.components, result.components_truth) == (3, 1)
    assert result.connectivity == pytest.approx(1 - 2 / 150)
    assert result.area == 1  # gaps of 2 pixels close when dilated by 2
    assert 0.9 < result.cl_dice < 1


def test_a_shift_within_the_dilation_changes_nothing_a_larger_one_everything(line):
    near, far = np.roll(line, 1, axis=0), np.roll(line, 10, axis=0)
    assert measure_connectivity(near, line).area == 1
    assert measure_connectivity(near, line).length == 1
    result = measure_connectivity(far, line)
    assert (result.area, result.length, result.cal, result.cl_dice) == (0, 0, 0, 0)


def test_half_a_line_has_half_of_its_skeleton(line):
    half = line.copy()
    half[:, 30:] = False
    result = measure_connectivity(half, line)
    assert result.length == pytest.approx(0.55, abs=0.06)
    # The whole predicted skeleton is right; half of the true one is found.
    assert result.cl_dice == pytest.approx(2 / 3, abs=0.03)


def test_no_prediction_scores_0_and_no_truth_is_undefined(line):
    nothing = np.zeros_like(line)
    found = measure_connectivity(nothing, line)
    assert (found.components, found.cal, found.cl_dice) == (0, 0, 0)
    undefined = measure_connectivity(line, nothing)
    assert undefined.components == 1 and undefined.cal is None and undefined.cl_dice is None
