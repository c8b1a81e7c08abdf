import csv

import pytest

from lib.prediction.found_images import FoundImage
from lib.prediction.measurements_table import MeasurementsTable

COLUMNS = ["image", "area_px", "ischaemic_index", "settings_sha256"]
A, B = (FoundImage(name, name) for name in "ab")


def rows_of(file):
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def test_a_killed_process_loses_no_row_but_the_one_being_written(tmp_path):
    file, partial = tmp_path / "measurements.csv", tmp_path / "measurements.partial.csv"
    table = MeasurementsTable(file, COLUMNS)
    with table.open_for_rows([A, B]):
        table.add_row(B, {"area_px": 3, "ischaemic_index": None}, "x")
        killed = partial.read_bytes() + b"a,4,"
    partial.write_bytes(killed)
    file.unlink()
    table = MeasurementsTable(file, COLUMNS)
    assert table.has_row(B, "x") and not table.has_row(B, "y") and not table.has_row(A, "x")
    with table.open_for_rows([A, B]):
        table.add_row(A, {"area_px": 5, "ischaemic_index": 1 / 3}, "x")
    assert rows_of(file) == [COLUMNS, ["a", "5", "0.333333", "x"], ["b", "3", "", "x"]]
    assert not partial.exists()


def test_an_exception_leaves_the_table_with_its_rows(tmp_path):
    table = MeasurementsTable(tmp_path / "measurements.csv", COLUMNS)
    with pytest.raises(KeyboardInterrupt), table.open_for_rows([A, B]):
        table.add_row(A, {"area_px": 5, "ischaemic_index": 0.5}, "x")
        raise KeyboardInterrupt
    assert rows_of(table.file) == [COLUMNS, ["a", "5", "0.5", "x"]]


def test_a_table_with_other_columns_is_not_read(tmp_path):
    file = tmp_path / "measurements.csv"
    file.write_text("image,area,x,settings_sha256\r\na,5,0.5,x\r\n")
    assert not MeasurementsTable(file, COLUMNS).has_row(A, "x")
