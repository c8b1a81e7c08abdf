"""Write docs/pictures/web.png: the web page in Chromium, with the network of the repository and one image.

python docs/generate_web_picture.py ../shared/data/FFA_image_level/with_np/With_NP0013.jpg --fovea 260,266

Without an image, it shows a synthetic angiogram. It needs requirements/test.txt and Chromium.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from lib.datasets.synthetic_angiograms import synthetic_angiogram  # noqa: E402
from lib.images.png import write_png  # noqa: E402

PICTURE = PROJECT / "docs" / "pictures" / "web.png"
ADDRESS = "http://127.0.0.1:8042"


def show(page: Page, image: Path, fovea: str, language: str) -> None:
    """Open the page, send the image, mark the fovea."""
    for _ in range(120):  # the server starts
        try:
            page.goto(ADDRESS)
            break
        except Error:
            time.sleep(0.5)
    page.click(f"button[lang={language}]")
    page.set_input_files("#files", image)
    page.wait_for_selector("#controls:not([hidden])", timeout=120_000)
    for name, value in zip(("row", "column"), fovea.split(","), strict=True):
        page.fill(f"#fovea-{name}", value)
    page.wait_for_selector("#sectors tbody tr:nth-child(4)")
    page.locator("#fovea-column").blur()
    page.wait_for_timeout(500)


def main() -> None:
    """Start the server in an empty folder, take the picture, end the server."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--fovea", default="256,256", metavar="ROW,COLUMN")
    parser.add_argument("--size", default="1440x900", metavar="WIDTHxHEIGHT")
    parser.add_argument("--language", default="en", choices=["en", "zh-hans"])
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        image = options.image or Path(folder) / "synthetic.png"
        if options.image is None:
            write_png(image, synthetic_angiogram(seed=3, index=0).image)
        environment = os.environ | {"CNP_WEB_FOLDER": f"{folder}/data"}
        command = [sys.executable, "run_web.py", "--port", ADDRESS.rpartition(":")[2]]
        server = subprocess.Popen(command, cwd=PROJECT, env=environment)
        try:
            browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": width, "height": height})
            show(page, image, options.fovea, options.language)
            page.screenshot(path=options.output)
            browser.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
