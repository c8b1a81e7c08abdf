"""The page in a real browser: its figures and picture are those of the values and the image it shows."""

import csv
import re
from io import StringIO

import pytest

from tests.web.conftest import downloaded, move
from tests.web.test_browser import area, paint
from tests.web.test_browser_layout import upload


@pytest.fixture
def page(chromium, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png"])
    page.click("#list li:nth-child(1) .show")
    page.evaluate("scrollTo(0, 0)")
    return page


def table(page) -> dict:
    text = downloaded(page, "measurements").path().read_text("utf-8-sig")
    return next(csv.DictReader(StringIO(text)))


def test_an_invalid_value_is_told_and_no_earlier_one_is_used(page, faults):
    own = page.inner_text("#areas")
    page.locator("#spacing").press_sequentially("11.4")  # the event for "1" comes first
    assert "Pixel spacing" in page.inner_text("#fields-fault")
    assert "mm" not in page.inner_text("#area")
    assert table(page)["pixel_spacing_mm"] == ""
    page.fill("#spacing", "0.0114")
    assert page.inner_text("#fields-fault") == ""
    assert "mm²" in page.inner_text("#area")
    page.locator("#spacing").press_sequentially("e")  # no number
    assert "Pixel spacing" in page.inner_text("#fields-fault")
    assert "mm" not in page.inner_text("#area")

    page.fill("#min-area", "60000")
    assert page.inner_text("#areas") == "0"
    page.fill("#min-area", "60000.5")
    assert "the network's own, 20, is used" in page.inner_text("#fields-fault")
    assert page.inner_text("#areas") == own != "0"
    assert table(page)["min_area_px"] == "20"
    page.fill("#min-area", "20")
    page.fill("#spacing", "0.0114")
    page.fill("#fovea-row", "100")
    assert "Fovea: expected a row and a column" in page.inner_text("#fields-fault")
    page.fill("#fovea-column", "4000")
    assert "Fovea: expected a row and a column" in page.inner_text("#fields-fault")
    page.fill("#fovea-column", "100")
    assert page.inner_text("#fields-fault") == ""
    page.fill("#fovea-column", "4000")
    page.click("#list li:nth-child(2) .show")
    assert page.inner_text("#fields-fault") == ""
    assert faults == []


def test_sectors_of_another_image_are_not_shown(page):
    for row in (2, 1):
        page.click(f"#list li:nth-child({row}) .show")
        page.fill("#fovea-row", "100")
        page.fill("#fovea-column", str(90 + row))
        page.wait_for_selector("#sectors tbody tr:nth-child(4)")
    measurement, held = re.compile("/measurement"), []
    page.route(measurement, lambda route: held.append(route))
    with page.expect_request(measurement):
        page.click("#list li:nth-child(2) .show")
        assert not page.locator("#sectors td").first.is_visible()
    assert not page.locator("#sectors td").first.is_visible()
    held.pop().continue_()
    page.wait_for_selector("#sectors tbody tr:nth-child(4)")


def test_the_picture_follows_a_change_of_the_device_pixel_ratio(page, chromium):
    size = page.locator("#canvas").evaluate("canvas => [canvas.clientWidth, canvas.clientHeight]")
    screen = {"width": 1280, "height": 860, "deviceScaleFactor": 2, "mobile": False}
    chromium.new_cdp_session(page).send("Emulation.setDeviceMetricsOverride", screen)
    page.wait_for_timeout(200)
    assert page.locator("#canvas").evaluate("canvas => [canvas.clientWidth, canvas.clientHeight]") == size
    move(page, "#opacity", 0.5)
    page.wait_for_timeout(200)
    drawn = page.locator("#canvas").evaluate("canvas => [canvas.width, canvas.height]")
    assert drawn == [2 * length for length in size]


@pytest.mark.parametrize("how", ["button", "key"])
def test_no_brush_works_on_a_mask_that_is_not_shown(page, how):
    move(page, "#brush", 40)
    page.click("#brush-erase")
    page.evaluate("scrollTo(0, 0)")
    if how == "button":
        page.click("#show-original")
    else:
        page.focus("#canvas")
        page.keyboard.press("o")
    assert page.get_attribute("#brush-erase", "aria-pressed") == "false"
    before = area(page)
    paint(page, [(30, 30), (220, 220)], 256)
    assert area(page) == before
    page.click("#brush-erase")  # shows the mask again
    assert page.get_attribute("#show-original", "aria-pressed") == "false"
    assert page.get_attribute("#brush-erase", "aria-pressed") == "true"


def test_a_correction_that_changes_no_pixel_does_not_count(page):
    corrected = page.locator("#summary tbody tr:nth-child(1) td").last
    move(page, "#threshold", 1)
    page.click("#brush-erase")
    page.evaluate("scrollTo(0, 0)")
    move(page, "#brush", 100)
    paint(page, [(128, 100), (128, 150)], 256)
    assert page.locator("#brush-clear").is_enabled()
    assert corrected.inner_text() == "–"
    assert table(page)["corrected_px"] == "0"
    move(page, "#threshold", 0.5)
    assert corrected.inner_text() == "yes"
    assert int(table(page)["corrected_px"]) > 0
