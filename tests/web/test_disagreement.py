"""The disagreement of the views: its map, its columns, and the order for review."""

import csv
from io import StringIO

import numpy as np
import pytest

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from lib.prediction.image_file import predict_file
from tests.web.conftest import analyse_all, left_darkness, network, png, send
from tests.web.test_corrections import CHOICE, put, table_of


@pytest.fixture
def views(web):
    """A network with two views that disagree."""
    web.network = network(left_darkness, tta="mirrors")
    return web.network


def test_map_and_columns_are_those_of_the_prediction(web, views, client, angiogram, tmp_path):
    write_png(tmp_path / "1.png", angiogram.image)
    expected = predict_file(views, tmp_path / "1.png").disagreement
    assert expected.max() > 0.1
    send(client, png(angiogram.image))
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    assert result["hasDisagreement"]
    levels = np.frombuffer(client.get(f"{result['url']}disagreement").content, np.uint8).reshape(256, 256)
    assert np.abs(levels / 510 - expected).max() <= 0.5 / 510 + 1e-6

    row = table_of(client, result)
    low, index, high = (float(row[f"ischaemic_index{part}"]) for part in ("_low", "", "_high"))
    assert low < index < high
    assert result["expectedGain"] == pytest.approx(float(row["disagreement"]) * high)
    correction = np.zeros((256, 256), np.uint8)
    correction[:, :128] = 2
    put(client, result, correction)
    corrected = table_of(client, result)
    assert corrected["ischaemic_index_high"] == corrected["disagreement"] == ""  # of another mask


def test_a_single_view_has_no_disagreement(web, client, angiogram):
    send(client, png(angiogram.image))
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    assert not result["hasDisagreement"] and result["expectedGain"] is None
    assert client.get(f"{result['url']}disagreement").status_code == 404
    text = client.get(f"{result['url']}download/measurements", CHOICE).content.decode("utf-8-sig")
    assert next(csv.DictReader(StringIO(text)))["disagreement"] == ""


def test_layer_and_order_for_review_in_the_browser(web, chromium, faults, server, tmp_path):
    web.network = network(left_darkness, tta="mirrors")
    for index in range(3):
        write_png(tmp_path / f"{index}.png", synthetic_angiogram(3, index, 256).image)
    page = chromium.new_page()
    page.goto(server)
    page.set_input_files("#files", [tmp_path / f"{index}.png" for index in range(3)])
    page.wait_for_selector("#list li:nth-child(3)[data-state=done]")
    results = page.evaluate("fetch('/results/').then(response => response.json())")["results"]
    gains = {result["fileName"]: result["expectedGain"] for result in results}
    in_order = sorted(gains, key=lambda name: -gains[name])
    assert in_order != list(gains)
    page.click("#review-order")
    assert page.locator("#list strong").all_inner_texts() == in_order
    page.click("#review-order")
    assert page.locator("#list strong").all_inner_texts() == list(gains)

    def picture() -> bytes:
        page.mouse.move(0, 0)
        page.wait_for_timeout(150)
        return page.locator("#canvas").screenshot()

    before = picture()
    page.click("#show-disagreement")
    assert page.locator("#legend-disagreement").is_visible()
    assert picture() != before
    page.click("#show-disagreement")
    assert not page.locator("#legend-disagreement").is_visible()
    assert faults == []


def test_the_range_is_shown_at_the_threshold_in_the_browser(
    web, chromium, faults, server, tmp_path, angiogram
):
    web.network = network(left_darkness, tta="mirrors")
    write_png(tmp_path / "1.png", angiogram.image)
    page = chromium.new_page()
    page.goto(server)

    def shows_the_measured_range(action) -> None:
        with page.expect_response("**/measurement?**") as response:
            action()
        measured = response.value.json()
        low, high = (f"{measured[f'ischaemic_index_{end}']:.1%}" for end in ("low", "high"))
        page.wait_for_selector(f"#range:visible:text('Range {low} to {high},')")

    shows_the_measured_range(lambda: page.set_input_files("#files", tmp_path / "1.png"))
    shows_the_measured_range(lambda: page.fill("#threshold", "0.7"))
    page.click("#brush-add")
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#range:empty", state="attached")
    assert faults == []
