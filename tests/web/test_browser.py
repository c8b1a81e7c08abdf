"""The page in a real browser: upload, threshold, fovea, download, delete."""

import csv
import json
import re
from io import StringIO

import numpy as np
import pytest
from PIL import Image

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from tests.web.conftest import downloaded, move, percent


def test_upload_measure_download_delete(chromium, faults, server, tmp_path):
    angiogram = synthetic_angiogram(seed=7, index=0, size=512)
    write_png(tmp_path / "1-1 _010.png", angiogram.image)
    page = chromium.new_page()
    page.goto(server)
    assert "Not a medical device" in page.inner_text("header")
    page.set_input_files("#files", tmp_path / "1-1 _010.png")
    page.wait_for_selector("#controls:not([hidden])")
    at_own_threshold = percent(page)
    assert page.inner_text("#threshold-value") == "0.500"

    move(page, "#threshold", 0.3)
    assert percent(page) > at_own_threshold > 0
    page.fill("#spacing", "0.0175")
    page.click("#mark-fovea")
    canvas = page.locator("#canvas").bounding_box()
    scale = min(canvas["width"], canvas["height"]) / 512
    column, row = angiogram.fovea
    page.mouse.click(
        canvas["x"] + canvas["width"] / 2 + (column - 255.5) * scale,
        canvas["y"] + canvas["height"] / 2 + (row - 255.5) * scale,
    )
    page.wait_for_selector("#sectors tbody tr:nth-child(7)")
    assert abs(float(page.input_value("#fovea-row")) - row) <= 2
    assert abs(float(page.input_value("#fovea-column")) - column) <= 2

    page.screenshot(path=tmp_path / "page.png")
    shown = np.asarray(Image.open(tmp_path / "page.png"))[..., :3]
    assert (shown == (240, 228, 66)).all(axis=2).sum() > 500  # pixels of outlines

    labelme = downloaded(page, "labelme")
    assert labelme.suggested_filename == "1-1 _010.json"
    document = json.loads(labelme.path().read_text(encoding="utf-8"))
    assert document["imagePath"] == "1-1 _010.png"
    assert len(document["shapes"]) == int(page.inner_text("#areas")) > 0

    # Page and server measure the same.
    header, values = downloaded(page, "measurements").path().read_text("utf-8-sig").splitlines()
    table = dict(zip(header.split(","), values.split(","), strict=True))
    assert percent(page) == round(100 * float(table["ischaemic_index"]), 1)
    assert f"({int(table['area_px']):,} px)" in page.inner_text("#area")
    assert f"({int(table['largest_area_px']):,} px)" in page.inner_text("#largest")
    assert int(table["fovea_row"].split(".")[0]) == int(page.input_value("#fovea-row"))

    page.click("#delete")
    page.wait_for_selector("main.empty")
    assert faults == []


def test_keyboard_small_screen_and_chinese(chromium, faults, server, tmp_path):
    page = chromium.new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(server)
    page.click("button[lang=zh-hans]")
    assert "仅供研究使用" in page.inner_text("header")
    for index in range(2):
        write_png(tmp_path / f"{index}.png", synthetic_angiogram(3, index, 256).image)
    (tmp_path / "bad.png").write_text("no image")
    page.set_input_files("#files", [tmp_path / name for name in ("bad.png", "0.png", "1.png")])
    page.wait_for_selector("li[data-state=failed]")
    for row in (2, 3):
        page.wait_for_selector(f"#list li:nth-child({row})[data-state=done]")
    assert "无法识别的图像格式" in page.inner_text("li[data-state=failed]")
    assert page.evaluate("document.documentElement.scrollWidth") == 360

    page.locator("#list li:nth-child(3) .show").focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#name") == "1.png"
    before = page.inner_text("#index")
    page.focus("#threshold")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#threshold-value") == "0.350"
    assert page.inner_text("#index") != before

    page.reload()  # the server still has the session's images
    page.wait_for_selector("#list li:nth-child(2)[data-state=done]")
    unnamed = page.locator("button, input, select, canvas:not([aria-hidden]), a[href]").evaluate_all(
        """elements => elements.filter(e => e.type !== "hidden" && !(
            e.ariaLabel || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    page.click("#delete-all")
    page.wait_for_selector("main.empty")
    assert [fault for fault in faults if "400 (Bad Request)" not in fault] == []


def paint(page, stroke, size: int) -> None:
    """Move the pressed pointer along points, (row, column), of a square image that fits the canvas."""
    canvas = page.locator("#canvas").bounding_box()
    scale = min(canvas["width"], canvas["height"]) / size
    for number, (row, column) in enumerate(stroke):
        page.mouse.move(
            canvas["x"] + canvas["width"] / 2 + (column + 0.5 - size / 2) * scale,
            canvas["y"] + canvas["height"] / 2 + (row + 0.5 - size / 2) * scale,
        )
        if not number:
            page.mouse.down()
    page.mouse.up()


def drawn_mask(page, folder) -> np.ndarray:
    downloaded(page, "mask").save_as(folder / "mask.png")
    return np.asarray(Image.open(folder / "mask.png")) > 0


def area(page) -> int:
    return int(page.inner_text("#area").removesuffix(" px").replace(",", ""))


def test_correct_the_mask_with_the_brush(chromium, faults, server, tmp_path):
    write_png(tmp_path / "1-1.png", synthetic_angiogram(seed=7, index=0, size=512).image)
    page = chromium.new_page()
    page.goto(server)
    page.set_input_files("#files", tmp_path / "1-1.png")
    page.wait_for_selector("#controls:not([hidden])")
    predicted, areas = drawn_mask(page, tmp_path), page.inner_text("#areas")

    move(page, "#brush", 10)
    page.click("#brush-add")
    page.evaluate("scrollTo(0, 0)")
    paint(page, [(256, 200), (256, 300)], 512)
    capsule = np.hypot(np.arange(512)[:, None] - 256, np.maximum(np.abs(np.arange(512) - 250) - 50, 0)) <= 10
    added = drawn_mask(page, tmp_path)
    assert (added != (predicted | capsule)).sum() < 80  # the pointer is at whole pixels of the screen
    assert area(page) == added.sum() > predicted.sum()
    page.click("#brush-undo")
    assert (drawn_mask(page, tmp_path) == predicted).all()
    assert page.inner_text("#areas") == areas

    page.focus("#canvas")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):  # from the middle of the picture
        page.keyboard.press(key)
    disc = np.hypot(np.arange(512)[:, None] - 265.5, np.arange(512) - 275.5) <= 10
    assert not predicted[disc].all()
    assert (drawn_mask(page, tmp_path) != (predicted | disc)).sum() < 20  # half pixels of the canvas
    page.click("#brush-erase")
    page.focus("#canvas")
    page.keyboard.press("Space")  # where the brush was
    assert (drawn_mask(page, tmp_path) != (predicted & ~disc)).sum() < 20
    for _ in range(2):
        page.click("#brush-undo")
    assert (drawn_mask(page, tmp_path) == predicted).all()
    move(page, "#brush", 100)
    page.evaluate("scrollTo(0, 0)")
    page.route("**/correction", lambda route: route.abort())
    paint(page, [(100, 100), (400, 400), (100, 400)], 512)
    page.wait_for_selector("#correction-fault:not(:empty)")  # the server cannot be reached
    assert "not saved" in page.inner_text("#correction-fault")
    page.unroute("**/correction")
    erased = drawn_mask(page, tmp_path)  # the download sends the correction first
    assert page.inner_text("#correction-fault") == ""
    assert area(page) == erased.sum() < predicted.sum() / 2
    page.reload()
    page.wait_for_selector("#controls:not([hidden])")
    assert area(page) == erased.sum()
    page.click("#brush-clear")
    assert (drawn_mask(page, tmp_path) == predicted).all()
    assert [fault for fault in faults if "ERR_FAILED" not in fault] == []


def test_table_of_all_images(chromium, faults, server, tmp_path):
    names = ["1-1.png", "2-1.png"]
    for index, name in enumerate(names):
        write_png(tmp_path / name, synthetic_angiogram(3, index, 256).image)
    page = chromium.new_page()
    page.goto(server)
    page.set_input_files("#files", [tmp_path / name for name in names])
    for row in (1, 2):
        page.wait_for_selector(f"#list li:nth-child({row})[data-state=done]")
    page.click("#list li:nth-child(1) .show")  # the page shows the first that was ready
    page.wait_for_function("document.querySelector('#name').textContent === '1-1.png'")
    move(page, "#threshold", 0.3)
    with page.expect_download() as waiting:
        page.click("#summary-download")
    text = waiting.value.path().read_text("utf-8-sig")
    rows = list(csv.DictReader(StringIO(text)))
    shown = [row.split("\t") for row in page.inner_text("#summary tbody").splitlines()]
    assert [row["image"] for row in rows] == [cells[0] for cells in shown] == names
    assert [row["threshold"] for row in rows] == ["0.3", "0.5"]
    for row, (_, index, area_text, number, largest, *_) in zip(rows, shown, strict=True):
        assert index == f"{100 * float(row['ischaemic_index']):.1f}%"
        assert area_text == f"{int(row['area_px']):,} px"
        assert number == row["number_of_areas"]
        assert largest == f"{int(row['largest_area_px']):,} px"
    assert faults == []


def test_an_image_that_is_removed_while_its_result_is_fetched_is_not_shown(
    chromium, faults, server, tmp_path
):
    write_png(tmp_path / "0.png", synthetic_angiogram(3, 0, 256).image)
    page, fetched, held = chromium.new_page(), re.compile(r"/probability"), []
    page.goto(server)
    page.route(fetched, lambda route: held.append(route))
    with page.expect_request(fetched):
        page.set_input_files("#files", tmp_path / "0.png")
    page.click("#list .remove")
    page.wait_for_selector("#list li", state="detached")
    held.pop().fulfill(body=b"")
    page.wait_for_timeout(500)
    assert page.inner_text("#announcements") == "0.png was deleted."
    assert faults == []


def test_an_image_that_the_server_has_deleted_does_not_wait(chromium, faults, server, tmp_path):
    for index in range(2):
        write_png(tmp_path / f"{index}.png", synthetic_angiogram(3, index, 256).image)
    page, lists, held, later = chromium.new_page(), re.compile(r"/results/$"), [], []
    page.goto(server)
    page.route(lists, lambda route: held.append(route), times=1)
    with page.expect_request(lists):
        page.set_input_files("#files", tmp_path / "0.png")
    page.set_input_files("#files", tmp_path / "1.png")  # after the page has asked for the list
    page.wait_for_selector("#list li:nth-child(2)[data-state=waiting]")
    held.pop().fulfill(json={"results": []})
    page.wait_for_selector("#list li:nth-child(1)[data-state=failed] :text('send the image again')")
    page.wait_for_selector("#list li:nth-child(2)[data-state=done]")
    page.on("request", lambda request: later.append(request.url))
    page.wait_for_timeout(1000)
    assert [url for url in later if lists.search(url)] == []
    assert faults == []


@pytest.mark.parametrize(
    ("button", "kept"), [("#list li:nth-child(2) .remove", ["0.png", "2.png"]), ("#delete-all", [])]
)
def test_an_image_that_is_removed_while_it_is_sent_is_deleted(
    chromium, faults, server, tmp_path, button, kept
):
    for index in range(3):
        write_png(tmp_path / f"{index}.png", synthetic_angiogram(3, index, 256).image)
    page, upload, held = chromium.new_page(), re.compile(r"name=1\.png"), []
    page.goto(server)
    page.set_input_files("#files", tmp_path / "0.png")
    page.wait_for_selector("#list li[data-state=done]")
    page.route(upload, lambda route: held.append(route))
    with page.expect_request(upload):
        page.set_input_files("#files", [tmp_path / "1.png", tmp_path / "2.png"])
    page.click(button)
    page.wait_for_selector("#list li[data-state=sending] :text('Being deleted')")
    assert not re.search("(1.png was|All images were) deleted", page.inner_text("#announcements"))
    with page.expect_response(upload):
        held.pop().continue_()
    page.wait_for_selector("#list li:has(strong[title='1.png'])", state="detached")
    assert page.locator("#list strong").all_inner_texts() == kept
    if kept:
        page.wait_for_selector("#list li:nth-child(2)[data-state=done]")
    else:
        assert page.inner_text("#announcements") == "All images were deleted."
    listed = page.request.get(f"{server}/results/").json()["results"]
    assert [result["fileName"] for result in listed] == kept
    assert faults == []
