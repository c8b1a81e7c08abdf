"""The web page while many clients upload at once or hold slow connections, and its end by SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.web_under_load import measure, page, upload
from lib.images.png import encode_png
from lib.runtime.paths import PROJECT
from tests.conftest import older_onnx_metadata
from tests.lib.networks.test_onnx_metadata import model_of, written

pytestmark = pytest.mark.faults


def test_the_page_answers_and_no_worker_is_killed(tmp_path):
    pytest.importorskip("django", reason="pip install -r requirements/web.txt")
    found = measure(written(tmp_path, model_of(), older_onnx_metadata()), rounds=4, uploads=50, slows=10)
    assert set(found["uploads"]) == {"201", "503"} and found["uploads"]["201"] >= 12
    assert found["slowest page s"] < 2 and found["slowest page beside them s"] < 2
    assert found["slow connections"]["longest s"] < 15  # the server ends them
    assert found["pages"] > 20 and found["pages failed"] == []
    assert found["workers ended"] == 0
    assert found["exit code"] == 0 and found["images left"] == 0
    assert not [line for line in found["log"] if "Traceback" in line or "abort" in line.lower()]


def ended(folder, seconds: float, *, with_upload: bool) -> tuple[int, str]:
    """Exit code and output of a server that gets SIGTERM after so many seconds, or while it analyses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "run_web.py", "--port", str(port)]
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("CNP_WEB_", "DJANGO_"))}
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=settings | {"CNP_WEB_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        if with_upload:
            cookie, token = opened(port)
            body = encode_png(np.random.default_rng(0).integers(0, 256, (900, 900), np.uint8))
            assert upload(port, cookie, token, body, lingers=False) == 201
        time.sleep(seconds)
        os.killpg(server.pid, signal.SIGTERM)
        return server.wait(60), server.stdout.read()


def opened(port: int) -> tuple[str, str]:
    for _ in range(300):
        try:
            return page(port)
        except OSError:
            time.sleep(0.2)
    raise AssertionError("no page within a minute")


@pytest.mark.parametrize(
    ("seconds", "with_upload"),
    [(0.1, True), (0.5, True), (1, True), *((tenths / 10, False) for tenths in range(5, 50, 5))],
)
def test_sigterm_at_any_moment_ends_it_without_traceback_or_abort(tmp_path, seconds, with_upload):
    pytest.importorskip("django", reason="pip install -r requirements/web.txt")
    code, output = ended(tmp_path, seconds, with_upload=with_upload)
    assert code in {0, 143}
    assert "Traceback" not in output and "terminate called" not in output and "code 134" not in output
    assert not [*tmp_path.glob("results/*"), *tmp_path.glob("uploads/*")]
