"""The page in a real browser: rows of the list, phone, accessibility, and what stays after a reload."""

import numpy as np
import pytest
from PIL import Image

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from tests.web.conftest import left_darkness, move, network
from tests.web.test_uploads import dicom

LONG = f"{'a_long_name_' * 12}.png"


def upload(page, folder, names) -> None:
    """Send images of these names; `bad.png` is no image."""
    for index, name in enumerate(names):
        write_png(folder / name, synthetic_angiogram(3, index, 256).image)
    if "bad.png" in names:
        (folder / "bad.png").write_text("no image")
    page.set_input_files("#files", [folder / name for name in names])
    for row, name in enumerate(names, 1):
        state = "failed" if name == "bad.png" else "done"
        page.wait_for_selector(f"#list li:nth-child({row})[data-state={state}]")


def test_every_row_and_its_button_are_in_reach(chromium, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["good.png", "bad.png", LONG])
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("list.scrollWidth <= list.clientWidth")
        assert page.locator(".privacy").is_visible()
        for row in page.locator("#list li").all():
            row.scroll_into_view_if_needed()
            outer = row.bounding_box()
            assert outer["x"] > 0 and outer["x"] + outer["width"] < width
            for part in row.locator("strong, .show span span, .remove").all():
                box = part.bounding_box()
                assert outer["x"] <= box["x"] and box["x"] + box["width"] <= outer["x"] + outer["width"]
            assert row.locator(".remove").evaluate(
                """button => { const { x, y, width, height } = button.getBoundingClientRect();
                return document.elementFromPoint(x + width / 2, y + height / 2) === button; }"""
            )
    for name in (LONG, "bad.png"):
        page.click(f"#list li:has(strong[title='{name}']) .remove")
        page.wait_for_selector(f"#list strong[title='{name}']", state="detached")
    assert page.locator("#list li").count() == 1


def test_choices_stay_after_a_reload_and_a_change_of_language(chromium, faults, server, tmp_path):
    page = chromium.new_page()
    page.goto(server)
    upload(page, tmp_path, ["P17 first.png", "P18 second.png"])
    page.locator("#list .show").nth(1).click()
    move(page, "#threshold", 0.3)
    fields = {"#spacing": "0.0175", "#min-area": "60", "#fovea-row": "100", "#fovea-column": "120"}
    for field, value in fields.items():
        page.fill(field, value)
    index = page.inner_text("#index")
    page.reload()
    page.wait_for_selector("#sectors tbody tr:nth-child(7)")
    for language in ("en", "zh-hans"):
        page.click(f"button[lang={language}]")
        page.wait_for_selector("#sectors tbody tr:nth-child(7)")
        assert page.inner_text("#name") == "P18 second.png"
        assert {field: page.input_value(field) for field in fields} == fields
        assert page.inner_text("#threshold-value") == "0.300"
        assert page.inner_text("#index") == index
    assert page.get_attribute("html", "lang") == "zh-hans"
    stored = page.evaluate("JSON.stringify([{ ...sessionStorage }, { ...localStorage }])")
    # Whole words: the random identifiers of the images contain any two characters by chance.
    assert "threshold" in stored and not any(word in stored for word in ("first", "second", ".png"))
    page.click("#delete-all")
    page.wait_for_selector("main.empty")
    assert "threshold" not in page.evaluate("JSON.stringify({ ...sessionStorage })")
    assert faults == []


def test_original_legend_and_four_digits_of_the_spacing(chromium, faults, server, tmp_path):
    (tmp_path / "1.dcm").write_bytes(
        dicom(synthetic_angiogram(3, 0, 256).image, PixelSpacing=[0.012345, 0.00567891])
    )
    page = chromium.new_page()
    page.goto(server)
    page.set_input_files("#files", tmp_path / "1.dcm")
    page.wait_for_selector("#controls:not([hidden])")
    assert page.get_attribute("#spacing", "placeholder") == "0.01235 × 0.005679 (from the file)"

    def outlined() -> int:
        page.wait_for_timeout(100)
        page.locator("#canvas").screenshot(path=tmp_path / "canvas.png")
        shown = np.asarray(Image.open(tmp_path / "canvas.png"))[..., :3]
        return (shown == (240, 228, 66)).all(axis=2).sum()

    assert outlined() > 300
    page.click("#show-original")
    assert outlined() == 0
    page.focus("#canvas")
    page.keyboard.press("o")
    assert outlined() > 300
    assert page.get_attribute("#show-original", "aria-pressed") == "false"
    assert page.locator("#legend li:visible").count() == 2
    page.fill("#fovea-row", "100")
    page.fill("#fovea-column", "100")
    assert page.locator("#legend li:visible").count() == 3
    assert faults == []


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_axe_finds_no_violation(web, chromium, faults, server, tmp_path, language):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    web.network = network(left_darkness, tta="mirrors")
    page = chromium.new_page()
    page.goto(server)
    page.click(f"button[lang={language}]")
    violations = [axe.Axe().run(page).response["violations"]]
    upload(page, tmp_path, ["1-1.png", "bad.png", "2-1.png"])
    page.fill("#fovea-row", "100")
    page.fill("#fovea-column", "100")
    page.wait_for_selector("#sectors tbody tr:nth-child(4)")
    for key in ("#show-disagreement", "#review-order", "#brush-add"):
        page.click(key)
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            violations.append(axe.Axe().run(page).response["violations"])
    found = {v["id"]: [node["html"] for node in v["nodes"]] for group in violations for v in group}
    assert found == {}
    assert [fault for fault in faults if "400 (Bad Request)" not in fault] == []


def test_the_picture_never_covers_the_table_of_all_images(chromium, server, tmp_path):
    page = chromium.new_page()
    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto(server)
    upload(page, tmp_path, ["1-1.png", "2-1.png"])
    page.wait_for_selector("#summary")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    picture, table = (page.locator(name).bounding_box() for name in ("#canvas", "#summary"))
    assert page.evaluate("window.scrollY") > 100
    assert picture["y"] + picture["height"] <= table["y"]
