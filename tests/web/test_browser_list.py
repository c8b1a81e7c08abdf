"""The page in a real browser: images that expire, requests that fail, and the focus in the list."""

import re
import time

import pytest

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from tests.web.conftest import left_darkness, network
from tests.web.test_browser_layout import upload

RESULTS = re.compile(r"/results/$")


def focused(page) -> str:
    """The focused element, or "BODY" if the focus was lost."""
    return page.evaluate(
        """() => {
            const { id, tagName, className, parentElement } = document.activeElement;
            const row = [...document.getElementById("list").children].indexOf(parentElement) + 1;
            return id || (row ? `${className} ${row}` : tagName);
        }"""
    )


@pytest.mark.parametrize("hours", [-2, 2])
def test_expired_images_are_told_by_the_time_that_the_server_has_left(chromium, server, tmp_path, hours):
    page = chromium.new_page()
    page.clock.install(time=time.time() + 3600 * hours)  # the clock of the browser's computer is wrong
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png"])
    page.clock.fast_forward("00:50:00")
    assert page.locator("#list li").count() == 2
    assert page.inner_text("#fault") == ""
    page.clock.fast_forward("00:11:00")
    page.wait_for_selector("main.empty")
    assert page.locator("#fault").is_visible()
    assert page.inner_text("#fault") == (
        "1-1.png has expired: the server has deleted it. 2-1.png has expired: the server has deleted it."
    )


@pytest.mark.parametrize("button", ["#delete", "#delete-all", "#list .remove"])
def test_a_deletion_that_fails_is_told(chromium, server, tmp_path, button):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png"])
    page.route("**/results/**", lambda route: route.abort())
    page.click(button)
    page.wait_for_selector("#fault:has-text('The server cannot be reached.')")
    assert page.locator("#list li").count() == 1
    page.unroute("**/results/**")
    page.click(button)
    page.wait_for_selector("main.empty")
    assert page.inner_text("#fault") == ""


def test_a_short_interruption_of_the_connection_loses_no_image(chromium, server, tmp_path):
    page, names, failed = chromium.new_page(), ["1-1.png", "2-1.png"], []

    def fails_once(route):
        address = route.request.url
        if address in failed:
            return route.continue_()
        failed.append(address)
        if "name=2-1" in address:
            return route.fulfill(status=502, body="<html>")
        return route.abort()

    page.clock.install()
    page.goto(server)
    page.route(re.compile(r"name=|/picture$"), fails_once)
    for index, name in enumerate(names):
        write_png(tmp_path / name, synthetic_angiogram(3, index, 256).image)
    page.set_input_files("#files", [tmp_path / name for name in names])
    page.wait_for_selector(":text('The server cannot be reached. Next attempt in 5 s.')")
    page.clock.fast_forward(6000)
    page.wait_for_selector(":text('The server answered with an error (502). Next attempt in 5 s.')")
    for row in (1, 2):
        while page.get_attribute(f"#list li:nth-child({row})", "data-state") != "done":
            page.clock.fast_forward(1000)
            page.wait_for_timeout(50)
    assert len(failed) == 4


def test_a_file_that_was_removed_is_told(chromium, server, tmp_path):
    page, file = chromium.new_page(), tmp_path / "1.png"
    write_png(file, synthetic_angiogram(3, 0, 256).image)
    page.goto(server)
    held = []
    page.route(re.compile(r"name=0\.png"), lambda route: held.append(route))
    write_png(tmp_path / "0.png", synthetic_angiogram(3, 1, 256).image)
    with page.expect_request(re.compile(r"name=0\.png")):
        page.set_input_files("#files", [tmp_path / "0.png", file])
    page.wait_for_selector("#list li:nth-child(2)")
    file.unlink()
    held.pop().continue_()
    page.wait_for_selector("#list li:nth-child(2):has-text('The file cannot be read; choose it again')")


def test_images_that_cannot_be_restored_are_told(chromium, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png"])
    page.route(RESULTS, lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#fault:has-text('The server cannot be reached.')")


def test_a_poll_that_fails_is_told_until_one_succeeds(chromium, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    page.route(RESULTS, lambda route: route.abort())
    write_png(tmp_path / "1-1.png", synthetic_angiogram(3, 0, 256).image)
    page.set_input_files("#files", tmp_path / "1-1.png")
    page.wait_for_selector("#fault:has-text('The server cannot be reached.')")
    page.unroute(RESULTS)
    page.wait_for_selector("#list li[data-state=done]")
    page.wait_for_selector("#fault:empty", state="attached")


def test_the_focus_stays_in_the_list(chromium, faults, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png", "3-1.png"])
    for row in (2, 3):
        page.locator("#list .show").nth(row - 1).focus()
        page.keyboard.press("Enter")
        assert focused(page) == f"show {row}"
    page.locator("#list .remove").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#list li:nth-child(3)", state="detached")
    assert focused(page) == "show 2"
    assert page.inner_text("#list li:nth-child(2) strong") == "3-1.png"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the last row: the focus goes to the row before it
    page.wait_for_selector("#list li:nth-child(2)", state="detached")
    assert focused(page) == "show 1"
    page.focus("#delete")
    page.keyboard.press("Enter")
    page.wait_for_selector("main.empty")
    assert focused(page) == "files"
    assert faults == []


def test_a_row_that_is_moved_keeps_the_focus(web, chromium, server, tmp_path):
    web.network = network(left_darkness, tta="mirrors")
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png", "3-1.png"])
    before = page.locator("#list strong").all_inner_texts()
    page.locator("#list .show").nth(0).focus()
    page.locator("#review-order").evaluate("button => button.click()")  # leaves the focus where it is
    after = page.locator("#list strong").all_inner_texts()
    assert after != before == sorted(after)
    assert focused(page) == f"show {after.index('1-1.png') + 1}"
