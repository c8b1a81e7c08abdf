"""Files and tables of networks with several views, from the images on."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.prediction.image_file import predict_file
from lib.prediction.results_record import ResultsRecord
from tests.lib.prediction.test_folder import network, rows_of


def darker_to_the_right(images):
    """A network that its mirror images contradict."""
    factors = np.linspace(0.9, 1.1, images.shape[2], dtype=np.float32)[:, None]
    return np.minimum((1 - images) * factors, 1)


def mirrored():
    return dataclasses.replace(network(tta="mirrors"), predict=darker_to_the_right)


def predicted(used, angiograms, output):
    images = find_images([angiograms], output)
    table, failures = predict_images(used, images, output, {})
    assert not failures
    return images, rows_of(table)


def test_each_image_has_a_map_and_a_range_around_its_index(angiograms, tmp_path):
    images, rows = predicted(mirrored(), angiograms, tmp_path)
    for image, row in zip(images, rows, strict=True):
        low, index, high = (float(row[f"ischaemic_index{end}"]) for end in ("_low", "", "_high"))
        assert low < index < high and row["quality"] == "blurred"  # 160 pixels
        found = np.asarray(Image.open(tmp_path / row["disagreement_file"])) / 510
        expected = predict_file(mirrored(), image.file).disagreement
        np.testing.assert_allclose(found, expected, atol=0.51 / 510)
        assert 0 < float(row["disagreement"]) < found.max()


def test_the_review_order_is_that_of_disagreement_times_highest_index(angiograms, tmp_path):
    _, rows = predicted(mirrored(), angiograms, tmp_path)
    gains = {row["image"]: float(row["disagreement"]) * float(row["ischaemic_index_high"]) for row in rows}
    order = rows_of(tmp_path / "review_order.csv")
    assert [row["image"] for row in order] == sorted(gains, key=gains.get, reverse=True)
    assert [row["rank"] for row in order] == ["1", "2", "3"]
    by_image = {row["image"]: row for row in rows}
    for row in order:
        assert float(row["expected_gain"]) == pytest.approx(gains[row["image"]], rel=1e-4)
        assert row["share"] == by_image[row["image"]]["ischaemic_index"]
        assert row["labelme_file"] == by_image[row["image"]]["labelme_file"]


def test_one_view_gives_no_map_no_range_and_an_empty_order(angiograms, tmp_path):
    _, rows = predicted(network(), angiograms, tmp_path)
    for row in rows:
        assert [row[f"ischaemic_index{end}"] for end in ("_low", "_high")] == ["", ""]
        assert row["disagreement"] == "" and "disagreement_file" not in row
    assert not list(tmp_path.glob("*_disagreement.png")) and not rows_of(tmp_path / "review_order.csv")


def test_the_map_of_an_earlier_prediction_is_removed_with_its_row(angiograms, tmp_path):
    predicted(mirrored(), angiograms, tmp_path)
    assert len(list(tmp_path.glob("*_disagreement.png"))) == 3
    predicted(network(), angiograms, tmp_path)
    assert not list(tmp_path.glob("*_disagreement.png"))


def test_a_result_that_cannot_be_written_leaves_the_files_of_the_earlier_one(angiograms, tmp_path):
    images, _ = predicted(mirrored(), angiograms, tmp_path)
    record = ResultsRecord(tmp_path, overwrite=False)
    entry = record.entry(images[0].text)
    with pytest.raises(TypeError):  # as a full disk: after the file was opened
        record.add(entry, {entry["files"]["mask"][0]: "no bytes"})
    assert all((tmp_path / name).is_file() for name, _ in entry["files"].values())


def test_rows_of_an_earlier_version_stay(angiograms, tmp_path, capsys):
    """Its record has neither the new columns, nor the new file, nor the hash of the new table."""
    predicted(mirrored(), angiograms, tmp_path)
    record = tmp_path / "results.jsonl"
    tables, *entries = map(json.loads, record.read_text().splitlines())
    del tables["tables"]["review_order.csv"]
    new = {"ischaemic_index_low", "ischaemic_index_high", "disagreement", "quality"}
    for entry in entries:
        entry["measurements"] = {k: v for k, v in entry["measurements"].items() if k not in new}
        (tmp_path / entry["files"].pop("disagreement")[0]).unlink()
    (tmp_path / "review_order.csv").unlink()
    record.write_text("".join(f"{json.dumps(line)}\n" for line in [tables, *entries]))
    _, rows = predicted(mirrored(), angiograms, tmp_path)
    assert "3 of 3 images skipped" in capsys.readouterr().out
    assert len(rows) == 3 and not rows_of(tmp_path / "review_order.csv")
