"""Seconds from the choice of a file in the web page to its overlay, in headless Chromium.

python -m benchmarks.upload_to_overlay FILE.onnx... [--size 768]
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from lib.runtime.paths import PROJECT

PORT = 8139


def seconds(page: Page, image: Path) -> float:
    page.goto(f"http://127.0.0.1:{PORT}/")
    start = time.perf_counter()
    page.set_input_files("#files", image)
    page.wait_for_selector("#controls:not([hidden])", timeout=300_000)
    taken = time.perf_counter() - start
    page.click("#delete")
    page.wait_for_selector("main.empty")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        image = Path(folder) / "angiogram.png"
        write_png(image, synthetic_angiogram(7, 0, arguments.size).image)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        for model in arguments.models:
            command = [sys.executable, "run_web.py", "--model", str(model.resolve())]
            server = subprocess.Popen([*command, "--port", str(PORT)], cwd=PROJECT, stdout=subprocess.DEVNULL)
            try:
                time.sleep(8)
                page = browser.new_page()
                taken = [seconds(page, image) for _ in range(arguments.repeats)]
                print(f"{model.name}: first {taken[0]:.2f} s, then at best {min(taken[1:]):.2f} s")
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait()


if __name__ == "__main__":
    main()
