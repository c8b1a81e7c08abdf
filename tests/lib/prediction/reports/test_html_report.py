"""The page as a browser reads it: its elements, its pictures, and its script where Chromium is installed."""

import base64
import hashlib
import io
import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.prediction.reports.html_report import write_report
from lib.prediction.results_record import FilesChanged
from tests.lib.prediction.test_folder import network, rows_of

HOSTILE = "<script>alert(1)</script>\" onload='x'.png"


class Page(HTMLParser):
    """Elements with their attributes, texts of cells (by row) and of explained terms, content of the scripts."""

    def __init__(self, file):
        super().__init__()
        self.elements, self.rows, self.explained, self.script, self._open = [], [], [], "", []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag == "dt":
            self.explained.append("")

    def handle_endtag(self, tag):
        while self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open[-1:] == ["script"]:
            self.script += data
        elif {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        elif "dt" in self._open:
            self.explained[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def entry(image, **measurements):
    known = {"model": "m", "architecture": "a", "structure": "CNP", "threshold": 0.35, "min_area_px": 20}
    known |= {"threshold_source": "validation", "weights_sha256": "ab" * 32}
    files = {"overlay": [f"{hashlib.sha256(image.encode()).hexdigest()}.png", "0"]}
    return {"image": image, "files": files, "measurements": known | measurements}


def written(folder, entries):
    write_report(folder / "report.html", entries, folder)
    return Page(folder / "report.html")


def test_texts_of_files_are_text_on_the_page(tmp_path):
    page = written(tmp_path, [entry(HOSTILE, ischaemic_index=0.5, model="<b>&", quality='"><img src=x>')])
    assert [row[1] for row in page.rows] == ["Network网络", "<b>&", "Image图像", HOSTILE]
    assert len(page.attributes("script")) == 1 and not page.attributes("img") and not page.attributes("b")
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]


def test_the_page_needs_nothing_else_and_allows_only_its_own_script(tmp_path):
    first = entry("a.png", ischaemic_index=0.5)
    write_png(tmp_path / first["files"]["overlay"][0], np.full((60, 120, 3), (200, 10, 10), np.uint8))
    page = written(tmp_path, [first, entry("without.png", ischaemic_index=0.5)])
    (picture,) = page.attributes("img")
    kind, _, data = picture["src"].partition(",")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == "data:image/jpeg;base64" and pixels.shape == (200, 400, 3)
    assert np.abs(pixels - np.array([200.0, 10, 10])).max() < 8
    assert not page.attributes("link") and not any({"href", "srcset"} & {*a} for _, a in page.elements)
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    policy = next(a["content"] for a in page.attributes("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}'" in policy


def test_columns_are_those_that_the_rows_have(tmp_path):
    certain = {"ischaemic_index_low": 0.1, "ischaemic_index_high": 0.255, "disagreement": 0.0123}
    earlier = entry("b.png", ischaemic_index=0.2, area_mm2=None, threshold=0.5)
    page = written(tmp_path, [entry("a.png", ischaemic_index=0.2, quality="blurred", **certain), earlier])
    assert page.rows[1] == ["1", "m", "a", "CNP", "0.35", "validation", "20", "ab" * 32]
    assert [row[0] for row in page.rows[1:3]] == ["1", "2"]
    headings = ["Image图像", "Ischaemic index缺血指数", "Range范围", "Disagreement分歧度"]
    assert page.rows[3] == ["", *headings, "Image quality图像质量", "Network网络"]
    assert page.rows[4:] == [
        ["", "a.png", "20.0 %", "10.0–25.5 %", "0.0123", "blurred", "1"],
        ["", "b.png", "20.0 %", "", "", "", "2"],
    ]
    assert page.explained == [*headings[1:], "Image quality图像质量"]
    older = written(tmp_path, [earlier])
    assert "Range范围" not in str(older.rows)
    assert older.explained == [headings[1]]


def test_the_report_is_written_on_request_then_kept_up_to_date_and_never_overwritten(tmp_path):
    for n in (0, 1):
        write_png(tmp_path / f"{n}.png", synthetic_angiogram(4, n, 160).image)
    out = tmp_path / "out"
    report = out / "report.html"

    def predict(number, settings=None, **options):
        images = find_images([tmp_path / f"{n}.png" for n in range(number)], out)
        predict_images(settings or network(), images, out, {}, **options)

    predict(1)
    assert not report.exists()
    predict(1, report=True)
    assert len(Page(report).attributes("img")) == 1
    written = report.stat().st_mtime_ns
    predict(1)
    assert report.stat().st_mtime_ns == written, "nothing is new in it"
    predict(2)
    shares = [f"{100 * float(row['ischaemic_index']):.1f} %" for row in rows_of(out / "measurements.csv")]
    assert [row[2] for row in Page(report).rows[3:]] == shares and len(shares) == 2
    report.write_text("with my remarks")
    with pytest.raises(FilesChanged, match=r"report\.html: not written by run_prediction\.py"):
        predict(2, report=True)
    predict(2, network(pixel_spacing_mm=0.01))
    assert report.read_text() == "with my remarks"
    predict(2, network(pixel_spacing_mm=0.01), report=True, overwrite=True)
    assert len(Page(report).attributes("img")) == 2
    report.write_text("with my remarks")
    predict(2, report=True, overwrite=True)
    assert len(Page(report).attributes("img")) == 2


def test_the_table_is_sorted_and_the_language_changed_in_a_browser(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    shares = {"a": 0.09, "b": None, "c": 0.6, "d": 0.1}
    written(tmp_path, [entry(name, ischaemic_index=share) for name, share in shares.items()])
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(locale="zh-CN", viewport={"width": 390, "height": 844})
        page.goto((tmp_path / "report.html").as_uri())
        assert (
            page.get_by_text("非医疗器械").is_visible() and not page.get_by_text("not a medical").is_visible()
        )
        page.locator("#language").click()
        assert page.get_by_text("not a medical device").is_visible()
        orders = []
        for _ in range(2):
            page.get_by_role("button", name="Ischaemic index").click()
            orders.append("".join(page.locator("#images tbody tr td:nth-child(2)").all_inner_texts()))
        assert orders == ["cdab", "adcb"]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        browser.close()


def test_the_report_of_a_folder_whose_name_is_not_utf8_has_its_pictures(tmp_path):
    write_png(tmp_path / "1.png", synthetic_angiogram(4, 1, 160).image)
    out = tmp_path / os.fsdecode("病人".encode("gbk"))
    predict_images(network(), find_images([tmp_path / "1.png"], out), out, {}, report=True)
    assert len(Page(out / "report.html").attributes("img")) == 1
