import dataclasses
import json
import re

import pytest

from lib.configuration.reading import read_configuration
from lib.networks.operating_point import OperatingPoint, read_operating_point, write_operating_point
from lib.runtime.errors import UserError
from lib.runtime.paths import DEFAULT_CONFIGURATION

SETTINGS = read_configuration(DEFAULT_CONFIGURATION).testing_settings
BY_VALIDATION = dataclasses.replace(
    SETTINGS, threshold="validation", min_area_px=20, window="overlap", stride_width=5
)

WEIGHTS = "12ab"
"""Stands for the SHA-256 of the weights."""


def test_numbers_of_the_configuration_need_no_file(tmp_path):
    point = read_operating_point(tmp_path / "no", dataclasses.replace(SETTINGS, threshold=0.3), WEIGHTS)
    assert point == OperatingPoint(0.3, "configuration", 20)


def test_the_precision_of_the_configuration_is_taken(tmp_path):
    settings = dataclasses.replace(SETTINGS, threshold=0.3, min_area_px=7, precision="mixed_bfloat16")
    point = read_operating_point(tmp_path / "no", settings, WEIGHTS)
    assert point == OperatingPoint(0.3, "configuration", 7, "mixed_bfloat16")


@pytest.mark.parametrize(
    "chosen", [{"threshold": "validation"}, {"min_area_px": "validation"}, {"precision": "auto"}]
)
def test_each_value_that_testing_chooses_needs_its_file(tmp_path, chosen):
    numbers = {"threshold": 0.3, "min_area_px": 7, "precision": "float32"}
    with pytest.raises(UserError, match=r"a\.json: no such file"):
        read_operating_point(
            tmp_path / "a.json", dataclasses.replace(SETTINGS, **(numbers | chosen)), WEIGHTS
        )


def test_a_chosen_operating_point_is_written_and_read(tmp_path):
    point = OperatingPoint(0.37, "best F1 on the validation images", 20)
    write_operating_point(tmp_path / "a.json", point, BY_VALIDATION, WEIGHTS)
    assert read_operating_point(tmp_path / "a.json", BY_VALIDATION, WEIGHTS) == point


def test_a_choice_for_the_weights_of_an_earlier_epoch_is_refused(tmp_path):
    file = tmp_path / "a.json"
    write_operating_point(file, OperatingPoint(0.4, "", 20), BY_VALIDATION, WEIGHTS)
    with pytest.raises(UserError, match=r"chosen for other weights .*; run run_testing\.py"):
        read_operating_point(file, BY_VALIDATION, "34cd")
    older = json.loads(file.read_text())
    del older["weights_sha256"]
    file.write_text(json.dumps(older))
    assert read_operating_point(file, BY_VALIDATION, "34cd").threshold == 0.4


def test_the_error_for_a_missing_choice_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"run run_testing\.py .*threshold=0\.5"):
        read_operating_point(tmp_path / "a.json", BY_VALIDATION, WEIGHTS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window": "whole"}, "window = whole, chosen for overlap"),
        ({"tta": "mirrors"}, "tta = mirrors, chosen for none"),
        ({"stride_width": 7}, "stride_width = 7, chosen for 5"),
        ({"min_area_px": "validation"}, "min_area_px = validation, chosen for a number"),
        ({"precision": "auto"}, "precision = auto, chosen for float32"),
        ({"best_last": "last"}, "best_last = last, chosen for best"),
    ],
)
def test_a_choice_for_other_settings_is_refused(tmp_path, change, named):
    write_operating_point(tmp_path / "a.json", OperatingPoint(0.4, "", 20), BY_VALIDATION, WEIGHTS)
    other = dataclasses.replace(BY_VALIDATION, **change)
    with pytest.raises(UserError, match=re.escape(f"other settings: [testing settings] {named}; run")):
        read_operating_point(tmp_path / "a.json", other, "34cd")


def test_another_number_as_smallest_area_changes_nothing_else(tmp_path):
    point = OperatingPoint(0.4, "best F1 on the validation images", 20)
    write_operating_point(tmp_path / "a.json", point, BY_VALIDATION, WEIGHTS)
    read = read_operating_point(
        tmp_path / "a.json", dataclasses.replace(BY_VALIDATION, min_area_px=70), WEIGHTS
    )
    assert read == dataclasses.replace(point, min_area_px=70)


def test_a_file_without_a_precision_holds_for_float32(tmp_path):
    file = tmp_path / "a.json"
    write_operating_point(file, OperatingPoint(0.4, "", 20), BY_VALIDATION, WEIGHTS)
    content = json.loads(file.read_text())
    del content["precision"], content["chosen_for"]["precision"]
    file.write_text(json.dumps(content))
    assert read_operating_point(file, BY_VALIDATION, WEIGHTS).precision == "float32"
    with pytest.raises(UserError, match="chosen for other settings"):
        read_operating_point(file, dataclasses.replace(BY_VALIDATION, precision="mixed_bfloat16"), WEIGHTS)


@pytest.mark.parametrize(("older", "tta"), [(False, "none"), (True, "mirrors")])
def test_a_file_with_a_truth_value_for_tta_keeps_its_meaning(tmp_path, older, tta):
    file, settings = tmp_path / "a.json", dataclasses.replace(BY_VALIDATION, tta=tta)
    write_operating_point(file, OperatingPoint(0.4, "", 20), settings, WEIGHTS)
    content = json.loads(file.read_text())
    content["chosen_for"]["tta"] = older
    file.write_text(json.dumps(content))
    assert read_operating_point(file, settings, WEIGHTS).threshold == 0.4
    with pytest.raises(UserError, match="chosen for other settings"):
        read_operating_point(file, dataclasses.replace(settings, tta="symmetries"), WEIGHTS)


def test_a_chosen_precision_is_written_and_read(tmp_path):
    settings = dataclasses.replace(SETTINGS, precision="auto")
    with pytest.raises(UserError, match="testing chooses"):
        read_operating_point(tmp_path / "a.json", settings, WEIGHTS)
    point = OperatingPoint(0.5, "configuration", 20, "mixed_bfloat16")
    write_operating_point(tmp_path / "a.json", point, settings, WEIGHTS)
    assert read_operating_point(tmp_path / "a.json", settings, WEIGHTS) == point


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("chosen_for", "chosen"),
        lambda text: text.replace('"tta"', '"ttb"'),
        lambda text: text.replace('"threshold"', '"limit"'),
    ],
)
def test_a_damaged_choice_is_an_error_of_one_line(tmp_path, change):
    file = tmp_path / "a.json"
    write_operating_point(file, OperatingPoint(0.4, "", 20), BY_VALIDATION, WEIGHTS)
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=r"a\.json: .*; run run_testing\.py with the same") as raised:
        read_operating_point(file, BY_VALIDATION, WEIGHTS)
    assert "\n" not in str(raised.value)
