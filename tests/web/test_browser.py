"""The page in a real browser: upload, threshold, fovea, download, delete."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def chromium(tmp_path):
    """A browser with an empty profile; skips the test if Chromium is missing."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=program,
            args=FLAGS,
            viewport={"width": 1280, "height": 860},
            locale="en",
        )
        yield context
        context.close()


@pytest.fixture
def faults(chromium):
    """Errors of the page, including violations of the content security policy."""
    found = []
    chromium.on("console", lambda m: found.append(m.text) if m.type == "error" else None)
    chromium.on("weberror", lambda error: found.append(str(error.error)))
    return found


def move(page, slider: str, value: float) -> None:
    page.locator(slider).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')) }", value
    )


def percent(page) -> float:
    return float(page.inner_text("#index").rstrip("%"))


def downloaded(page, kind: str) -> str:
    with page.expect_download() as waiting:
        page.click(f"[data-download={kind}]")
    return waiting.value


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
