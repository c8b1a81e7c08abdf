"""Checks over thousands of images that memory does not grow, no request fails and no file is left (Linux).

python -m benchmarks.soak FILE.onnx [--predictions 2000] [--uploads 500] [--clients 10] [--size 768]

First predicts images one after the other in this process and writes all results. Then several clients upload
images to the web page in parallel; each waits for the result, downloads and deletes it.
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
from lib.networks.from_onnx import read_onnx_network
from lib.prediction.found_images import FoundImage
from lib.prediction.image_file import predict_file
from lib.prediction.result_files import encode_result
from lib.runtime.atomic_files import written_atomically
from lib.runtime.paths import PROJECT

PORT = 8141


def resident_mib(process: int | str) -> float:
    """Memory of a process and of its child processes in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    started = Path(f"/proc/{process}/task/{process}/children")
    return mib + sum(map(resident_mib, started.read_text().split()))


def second_and_last_quarter(memory: list[float]) -> dict[str, float]:
    """The median memory of the second and the last quarter, and the growth."""
    quarter = len(memory) // 4
    second, last = (statistics.median(part) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
    growth = f"{last / second - 1:+.2%}"
    return {"second quarter MiB": round(second), "last quarter MiB": round(last), "growth": growth}


def predictions(model: Path, images: list[Path], number: int, folder: Path) -> dict:
    """Predict images one after the other in this process."""
    network, memory, started = read_onnx_network(model), [], time.monotonic()
    for index in range(number):
        image = images[index % len(images)]
        result = encode_result(network, FoundImage.of(image, folder), "", predict_file(network, image))
        for kind, content in result.contents.items():
            with written_atomically(folder / kind) as (temporary,):
                temporary.write_bytes(content)
        memory.append(resident_mib(os.getpid()))
    left = len(list(folder.iterdir())) - 4  # map, mask, overlay, LabelMe file
    seconds = round(time.monotonic() - started)
    return {"predictions": number, "seconds": seconds, "files left": left} | (second_and_last_quarter(memory))


class Client:
    """A client of the web page with its own session."""

    def __init__(self) -> None:
        self._headers: dict[str, str] = {}
        page = self.ask("GET", "/").decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
        self._headers["X-CSRFToken"] = token

    def ask(self, method: str, address: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=300)
        connection.request(method, address, body, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {address}: {answer.status} {content[:200]!r}")
        if cookies := answer.headers.get_all("Set-Cookie"):
            kept = {c.partition("=")[0]: c.partition(";")[0] for c in cookies}
            old = self._headers.get("Cookie", "")
            kept = {c.partition("=")[0]: c for c in old.split("; ") if c} | kept
            self._headers["Cookie"] = "; ".join(kept.values())
        return content

    def upload(self, image: Path) -> None:
        """Upload an image, wait for the result, download and delete it."""
        self.ask("POST", "/results/?name=a.png", image.read_bytes())
        while (result := json.loads(self.ask("GET", "/results/"))["results"][0])["state"] != "done":
            if result["state"] == "failed":
                raise RuntimeError(result["message"])
            time.sleep(0.2)
        for what in ("picture", "probability", "measurement", "download/labelme"):
            choice = "?threshold=0.5&min_area_px=0" if what[0] in "md" else ""
            self.ask("GET", f"{result['url']}{what}{choice}")
        self.ask("DELETE", result["url"])


@contextmanager
def page(model: Path, folder: Path) -> Iterator[int]:
    """Start the web page; yield the number of its process."""
    command = [sys.executable, "run_web.py", "--model", str(model.resolve()), "--port", str(PORT)]
    environment = os.environ | {"CNP_WEB_FOLDER": str(folder)}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            for tries in count():
                try:
                    Client()
                    break
                except ConnectionError:
                    if tries > 120 or server.poll() is not None:
                        raise
                    time.sleep(0.5)
            yield server.pid
        finally:
            server.send_signal(signal.SIGTERM)


def uploads(model: Path, images: list[Path], number: int, clients: int, folder: Path) -> dict:
    """Upload images to the web page with `clients` clients in parallel."""
    memory, failures, started = [], [], time.monotonic()
    with page(model, folder) as server, ThreadPoolExecutor(clients) as pool:

        def visit(share: range) -> None:
            client = Client()
            for index in share:
                try:
                    client.upload(images[index % len(images)])
                except Exception as error:
                    failures.append(f"{type(error).__name__}: {error}")
                memory.append(resident_mib(server))

        list(pool.map(visit, (range(first, number, clients) for first in range(clients))))
    left = [*chain.from_iterable((folder / kind).rglob("*") for kind in ("results", "uploads"))]
    found = {"uploads": number, "clients": clients, "seconds": round(time.monotonic() - started)}
    found |= {"failed": len(failures), "first failures": failures[:3], "files left": len(left)}
    return found | second_and_last_quarter(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    for name, default in (("predictions", 2000), ("uploads", 500), ("clients", 10), ("size", 768)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic_angiograms(folder / "images", 8, seed=1, size=chosen.size)
        images = sorted((folder / "images").glob("*.png"))
        (folder / "results").mkdir()

        def report(measure: Callable[..., dict], *arguments: object) -> None:
            print(json.dumps(measure(chosen.model, images, *arguments)), flush=True)

        report(predictions, chosen.predictions, folder / "results")
        report(uploads, chosen.uploads, chosen.clients, folder / "web")


if __name__ == "__main__":
    main()
