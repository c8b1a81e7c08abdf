import csv

import pytest

from lib.prediction.measurements_table import not_a_formula, write_tables


def entry(image, sizes=(), **measurements):
    files = {"mask": [f"{image}_mask.png", "0"]}
    hashes = {"image_sha256": "1", "settings_sha256": "2"}
    return {"image": image, "files": files, "measurements": measurements, "area_sizes_px": sizes, **hashes}


def rows_of(file):
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.reader(stream))


def test_both_tables_open_in_excel(tmp_path):
    files = [tmp_path / name for name in ("measurements.csv", "area_sizes.csv", "review_order.csv")]
    entries = [
        entry("a", [5, 2], area_px=7, model="=cmd", ischaemic_index=1 / 3),
        entry("眼", [4], area_px=4, model="m", area_fraction=None),
    ]
    write_tables(entries, *files)
    assert all(file.read_bytes().startswith(b"\xef\xbb\xbf") for file in files)  # else Excel reads no UTF-8
    header = ["image", "area_px", "model", "ischaemic_index", "area_fraction"]
    assert rows_of(files[0]) == [
        [*header, "mask_file", "image_sha256", "settings_sha256"],
        ["a", "7", "'=cmd", "0.333333", "", "a_mask.png", "1", "2"],
        ["眼", "4", "m", "", "", "眼_mask.png", "1", "2"],
    ]
    sizes = [["a", "1", "5"], ["a", "2", "2"], ["眼", "1", "4"]]
    assert rows_of(files[1]) == [["image", "area", "area_px"], *sizes]


@pytest.mark.parametrize("first", "=+-@\t\r＝＋－＠")
def test_a_formula_is_quoted(first):
    assert not_a_formula(f"{first}1") == f"'{first}1"


def test_other_texts_are_not_quoted():
    assert [not_a_formula(text) for text in ("", "a=1", "0.5")] == ["", "a=1", "0.5"]
