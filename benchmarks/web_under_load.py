"""Many uploads at once and slow connections: how fast the web page answers, which workers end (Linux).

python -m benchmarks.web_under_load FILE.onnx [--rounds 20] [--uploads 50] [--slow 10]

Each round sends the uploads in parallel, without a pause; most get status 503. Some clients keep their
connection open after the response. Then slow connections send one byte a second: of a request's header, of a
body, or nothing at all. All the time a visitor opens the page again and again.
"""

import argparse
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import environ
from pathlib import Path

import numpy as np

from lib.images.png import encode_png
from lib.runtime.paths import PROJECT

UPLOAD_BYTES = 95_000
SLOW_SECONDS = 30


class Visitor(threading.Thread):
    """Opens the page four times a second; each answer must come within 30 s."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.seconds, self.failures = port, [0.0], list[str]()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.25):
            started = time.monotonic()
            try:
                page(self.port)
            except (OSError, http.client.HTTPException, RuntimeError) as error:
                self.failures.append(repr(error))
            self.seconds.append(time.monotonic() - started)


def page(port: int) -> tuple[str, str]:
    """Open the page; its cookie and CSRF token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)
    assert token
    return answer.headers["Set-Cookie"].partition(";")[0], token[1]


def upload(port: int, cookie: str, token: str, body: bytes, *, lingers: bool) -> int | str:
    """Upload; status, or the error. One that `lingers` closes its connection late."""
    head = (
        f"POST /results/?name=a.png HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n"
        f"X-CSRFToken: {token}\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {'close' if lingers else 'keep-alive'}\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode() + body)
            status = int(connection.recv(4096).split()[1])
            time.sleep(2 * lingers)
            return status
    except (OSError, IndexError) as error:
        return type(error).__name__


def slow(port: int, kind: int, until: float) -> float:
    """Hold a connection that sends a byte a second; seconds until the server ends it."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        text = b"GET / HTTP/1.1\r\nX-Long: "
        if kind == 1:
            text = b"POST /results/?name=a.png HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
        try:
            connection.sendall(text if kind != 2 else b"")
            while time.monotonic() < until:
                if kind != 2:
                    connection.sendall(b"a")
                connection.settimeout(1)
                try:
                    if not connection.recv(4096):
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
    return time.monotonic() - started


@contextmanager
def server(model: Path, folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """The web page; its process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "run_web.py", "--model", str(model.resolve()), "--port", str(port)]
    log = (folder / "log").open("w")
    settings = environ | {"CNP_WEB_FOLDER": str(folder / "web")}
    with subprocess.Popen(command, cwd=PROJECT, env=settings, stdout=log, stderr=log) as process:
        try:
            for _ in range(240):
                try:
                    page(port)
                    break
                except OSError:
                    time.sleep(0.25)
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)


def workers(process: subprocess.Popen) -> list[str]:
    """Numbers of the processes that serve."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return children.read_text().split()


def measure(model: Path, rounds: int, uploads: int, slows: int) -> dict:
    """Load the server; the slowest answers of the page, the statuses of the uploads, and ended workers."""
    noise = np.random.default_rng(0).integers(0, 256, (304, 304), np.uint8)
    body = encode_png(noise)
    assert abs(len(body) - UPLOAD_BYTES) < 3000
    with tempfile.TemporaryDirectory() as name, server(model, Path(name)) as (process, port):
        before, found = workers(process), dict[str, object]()
        visitor = Visitor(port)
        visitor.start()
        statuses: Counter = Counter()
        with ThreadPoolExecutor(uploads) as pool:
            for _ in range(rounds):
                cookies = [page(port) for _ in range(5)]
                sent = [
                    pool.submit(upload, port, *cookies[n % 5], body, lingers=n % 5 == 0)
                    for n in range(uploads)
                ]
                statuses.update(one.result() for one in sent)
        found["uploads"] = {str(status): number for status, number in sorted(statuses.items(), key=str)}
        found["slowest page s"] = round(max(visitor.seconds), 2)
        visitor.seconds = [0.0]
        with ThreadPoolExecutor(max(slows, 1)) as pool:
            until = time.monotonic() + SLOW_SECONDS
            held = list(pool.map(lambda n: slow(port, n % 3, until), range(slows)))
        found["slow connections"] = {"number": slows, "longest s": round(max(held, default=0), 1)}
        found["slowest page beside them s"] = round(max(visitor.seconds), 2)
        visitor.ended.set()
        visitor.join()
        found |= {"pages": len(visitor.seconds), "pages failed": visitor.failures[:3]}
        found["workers ended"] = len(set(before) - set(workers(process)))
        process.send_signal(signal.SIGTERM)
        found["exit code"] = process.wait(60)
        left = [*Path(name).glob("web/results/*"), *Path(name).glob("web/uploads/*")]
        found |= {"images left": len(left), "log": (Path(name) / "log").read_text().splitlines()[2:][:5]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    for option, default in (("rounds", 20), ("uploads", 50), ("slow", 10)):
        parser.add_argument(f"--{option}", type=int, default=default)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.model, chosen.rounds, chosen.uploads, chosen.slow), indent=2))


if __name__ == "__main__":
    main()
