"""Corrections in a real browser: two tabs, requests that fail, leaving the page, downloads."""

import re

import pytest

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from tests.web.conftest import downloaded, move
from tests.web.test_browser import area, paint
from tests.web.test_browser_layout import upload

CORRECTION = re.compile(r"/correction$")
DIAGONAL = [(30, 30), (220, 220)]


@pytest.fixture
def page(chromium, server, tmp_path):
    """The page with two images; the first is shown, and a wide brush is chosen."""
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png"])
    show(page, 1)
    take_brush(page)
    return page


def show(page, row: int) -> None:
    page.click(f"#list li:nth-child({row}) .show")
    page.evaluate("scrollTo(0, 0)")


def take_brush(page) -> None:
    move(page, "#brush", 40)
    page.click("#brush-erase")
    page.evaluate("scrollTo(0, 0)")


def paint_and_save(page) -> None:
    with page.expect_response(CORRECTION):
        paint(page, DIAGONAL, 256)


def test_a_second_tab_does_not_replace_the_correction_of_the_first(page, chromium, server):
    other = chromium.new_page()
    other.goto(server)
    other.wait_for_selector("#controls:not([hidden])")
    show(other, 1)
    paint_and_save(page)
    corrected = area(page)
    page.bring_to_front()
    assert page.inner_text("#correction-fault") == ""
    other.bring_to_front()
    with other.expect_response(lambda answer: "download/measurements" in answer.url) as waiting:
        other.click("#summary-download")
    assert waiting.value.status == 412  # not a table of the other tab's correction
    other.wait_for_selector("#summary-fault:has-text('another tab')")
    take_brush(other)
    paint(other, [(128, 20), (128, 40)], 256)
    other.wait_for_selector("#correction-fault:has-text('another tab')")
    other.reload()
    other.wait_for_selector("#controls:not([hidden])")
    show(other, 1)
    assert area(other) == corrected


def test_a_correction_that_is_not_saved_is_told_and_sent_again(page):
    page.route(CORRECTION, lambda route: route.abort())
    paint(page, DIAGONAL, 256)
    page.wait_for_selector("#correction-fault:has-text('not saved')")
    corrected = area(page)
    move(page, "#opacity", 0.5)
    page.fill("#spacing", "0.01")
    page.fill("#spacing", "")
    assert "not saved" in page.inner_text("#correction-fault")
    show(page, 2)
    assert page.inner_text("#correction-fault") == ""

    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.reload())")
    page.wait_for_timeout(500)
    assert dialogs == ["beforeunload"]
    page.unroute(CORRECTION)
    with page.expect_response(CORRECTION) as waiting:
        show(page, 1)
    assert waiting.value.status == 204
    page.wait_for_selector("#correction-fault:empty", state="attached")
    page.reload()
    page.wait_for_selector("#controls:not([hidden])")
    show(page, 1)
    assert area(page) == corrected
    assert dialogs == ["beforeunload"]


def test_leaving_while_a_file_is_sent_asks(page, tmp_path):
    write_png(tmp_path / "3-1.png", synthetic_angiogram(3, 2, 256).image)
    held, dialogs = [], []
    page.route(re.compile("name=3-1"), lambda route: held.append(route))
    page.set_input_files("#files", tmp_path / "3-1.png")
    page.wait_for_selector("#list li[data-state=sending]")
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.reload())")
    page.wait_for_timeout(500)
    assert dialogs == ["beforeunload"]
    held.pop().continue_()
    page.wait_for_selector("#list li:nth-child(3)[data-state=done]")
    page.reload()
    assert dialogs == ["beforeunload"]


@pytest.mark.parametrize("by_a_proxy", [False, True])
def test_a_correction_whose_answer_was_lost_is_not_taken_for_that_of_another_tab(page, by_a_proxy):
    def without_answer(route):
        route.fetch()
        if by_a_proxy:
            route.fulfill(status=502)
        else:
            route.abort()

    page.route(CORRECTION, without_answer, times=1)
    paint(page, DIAGONAL, 256)
    page.wait_for_selector("#correction-fault:not(:empty)")
    paint(page, [(220, 30), (30, 220)], 256)
    page.wait_for_selector("#correction-fault:empty", state="attached")
    corrected = area(page)
    page.reload()
    page.wait_for_selector("#controls:not([hidden])")
    show(page, 1)
    assert area(page) == corrected


def test_a_download_that_waits_for_the_correction_is_of_the_image_at_the_click(page):
    held = []
    page.route(CORRECTION, lambda route: held.append(route))
    with page.expect_request(CORRECTION):
        paint(page, DIAGONAL, 256)
    with page.expect_download() as waiting:
        page.click("[data-download=mask]")
        show(page, 2)
        held.pop().continue_()
    assert waiting.value.suggested_filename == "1-1_mask.png"
    assert downloaded(page, "mask").suggested_filename == "2-1_mask.png"
