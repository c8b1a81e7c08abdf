import dataclasses

import pytest

from lib.command_line import DEFAULT_CONFIGURATION
from lib.configuration import read_configuration
from lib.operating_point import OperatingPoint, read_operating_point, write_operating_point
from lib.user_errors import UserError

SETTINGS = read_configuration(DEFAULT_CONFIGURATION).testing_settings
BY_VALIDATION = dataclasses.replace(SETTINGS, threshold="validation", min_area_px=20)


def test_numbers_of_the_configuration_need_no_file(tmp_path):
    point = read_operating_point(tmp_path / "no", dataclasses.replace(SETTINGS, threshold=0.3))
    assert point == OperatingPoint(0.3, "configuration", 0)


def test_what_validation_chose_is_read_again(tmp_path):
    point = OperatingPoint(0.37, "best F1 on the validation images", 20)
    write_operating_point(tmp_path / "a.json", point, BY_VALIDATION)
    assert read_operating_point(tmp_path / "a.json", BY_VALIDATION) == point


def test_nothing_chosen_yet_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"run run_testing\.py .*threshold=0\.5"):
        read_operating_point(tmp_path / "a.json", BY_VALIDATION)


@pytest.mark.parametrize(
    "change",
    [{"window": "whole"}, {"tta": True}, {"stride_width": 7}, {"min_area_px": "validation"}],
)
def test_a_choice_for_another_way_of_predicting_is_not_used(tmp_path, change):
    write_operating_point(tmp_path / "a.json", OperatingPoint(0.4, "", 20), BY_VALIDATION)
    with pytest.raises(UserError, match="chosen for other testing settings"):
        read_operating_point(tmp_path / "a.json", dataclasses.replace(BY_VALIDATION, **change))
