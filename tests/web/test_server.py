"""run_web.py and gunicorn with a real ONNX file."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from lib.networks.onnx_metadata import METADATA_KEY
from lib.runtime.paths import PROJECT
from tests.conftest import older_onnx_metadata
from tests.web.conftest import png


@pytest.fixture
def onnx_file(tmp_path):
    """A network of one layer, sigmoid(-10 x + 3), as run_export.py writes it."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    shape = ["batch", "height", "width", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "slope"], ["steep"]),
            helper.make_node("Add", ["steep", "shift"], ["shifted"]),
            helper.make_node("Sigmoid", ["shifted"], ["probability"]),
        ],
        "darkness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor("slope", TensorProto.FLOAT, [], [-10]),
            helper.make_tensor("shift", TensorProto.FLOAT, [], [3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(older_onnx_metadata())})
    onnx.save(model, tmp_path / "darkness.onnx")
    return tmp_path / "darkness.onnx"


def request(port: int, method: str, address: str, body: bytes = b"", **headers) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, address, body, headers)
    answer = connection.getresponse()
    answer.body = answer.read()
    return answer


def command_and_port(onnx_file):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "run_web.py", "--model", str(onnx_file), "--port", str(port)], port


def started(command, folder, **options):
    """The server as a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CNP_WEB_", "DJANGO_"))}
    environment["CNP_WEB_FOLDER"] = str(folder)
    return subprocess.Popen(command, cwd=PROJECT, env=environment, text=True, **options)


def test_start_upload_analyse_stop(onnx_file, tmp_path, angiogram):
    command, port = command_and_port(onnx_file)
    with started(command, tmp_path / "web", stdout=subprocess.PIPE) as server:
        try:
            assert "darkness (one layer), threshold 0.5" in server.stdout.readline()
            assert f"http://127.0.0.1:{port}/" in server.stdout.readline()
            page = wait_for(lambda: request(port, "GET", "/"), (ConnectionError,))
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.body.decode())[1]
            cookie = page.headers["Set-Cookie"].partition(";")[0]
            answer = request(
                port, "POST", "/results/?name=1.png", png(angiogram.image),
                **{"Cookie": cookie, "X-CSRFToken": token},
            )  # fmt: skip
            assert answer.status == 201
            session = answer.headers["Set-Cookie"].partition(";")[0]

            def done():
                (result,) = json.loads(request(port, "GET", "/results/", Cookie=session).body)["results"]
                return result if result["state"] == "done" else None

            url = wait_for(done)["url"]
            data = request(port, "GET", f"{url}probability", Cookie=session).body
            probability = np.frombuffer(data, "<f4").reshape(angiogram.image.shape)
            assert np.nanmax(probability) == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
            second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
            assert second.returncode == 2
            assert "Address already in use" in second.stderr
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_an_analysis_is_quiet_and_leaves_no_image(onnx_file, tmp_path, number):
    command, port = command_and_port(onnx_file)
    console = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with started(command, tmp_path / "web", **console, start_new_session=True) as server:
        try:
            page = wait_for(lambda: request(port, "GET", "/"), (ConnectionError,))
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.body.decode())[1]
            headers = {"Cookie": page.headers["Set-Cookie"].partition(";")[0], "X-CSRFToken": token}
            noise = np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8)
            assert request(port, "POST", "/results/?name=Secret.png", png(noise), **headers).status == 201
            os.killpg(server.pid, number)
            errors = server.communicate(timeout=30)[1]
        finally:
            server.kill()  # only if the test has failed: it has ended otherwise
    assert server.returncode == 0
    message = "\nStopping: ends the analysis, deletes all images; at most 15 s\n"
    assert errors == message * (number == signal.SIGINT)
    assert [*(tmp_path / "web" / "results").iterdir(), *(tmp_path / "web" / "uploads").iterdir()] == []
    database = b"".join(file.read_bytes() for file in (tmp_path / "web").glob("database.sqlite3*"))
    assert b"Secret" not in database


def test_a_second_server_with_another_network_is_refused(onnx_file, tmp_path):
    import onnx
    from onnx import helper

    folder, other = tmp_path / "web", tmp_path / "other.onnx"
    model = onnx.load(onnx_file)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(older_onnx_metadata(threshold=0.4))})
    onnx.save(model, other)
    command, port = command_and_port(onnx_file)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started(command, folder, **quiet) as server:
        try:
            wait_for(lambda: request(port, "GET", "/"), (ConnectionError,))
            command, _ = command_and_port(other)
            console = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            with started(command, folder, **console) as second:
                try:
                    errors = second.communicate(timeout=60)[1]
                finally:
                    second.kill()  # only if the test has failed: it has ended otherwise
            assert second.returncode == 2
            message = f"error: another network, or the same with other settings, serves {folder}; "
            assert errors.startswith(message) and errors.count("\n") == 1
            assert "CNP_WEB_FOLDER" in errors
            command, port = command_and_port(onnx_file)
            with started(command, folder, **quiet) as same:
                try:
                    wait_for(lambda: request(port, "GET", "/"), (ConnectionError,))
                finally:
                    same.terminate()
        finally:
            server.terminate()


def test_workers_that_start_together_serve_one_folder(onnx_file, tmp_path):
    _, port = command_and_port(onnx_file)
    command = [sys.executable, "-m", "gunicorn", "--config", "web/gunicorn_settings.py", "web.wsgi"]
    command += ["--workers", "4", "--bind", f"127.0.0.1:{port}", "--env", f"CNP_WEB_MODEL={onnx_file}"]
    log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with started(command, tmp_path / "web", **log) as server:
        try:
            wait_for(lambda: request(port, "GET", "/"), (ConnectionError,))
            wait_for(lambda: len((tmp_path / "web" / "serving_network.json").read_text()))
            time.sleep(3)  # all workers have started
            assert server.poll() is None
        finally:
            server.terminate()
        assert "another network" not in server.communicate(timeout=30)[1] and server.returncode == 0


def wait_for(result, errors=()):
    """Call `result` until it returns a true value; return this value."""
    for _ in range(200):
        try:
            if found := result():
                return found
        except errors:
            pass
        time.sleep(0.1)
    raise AssertionError("no result within 20 s")
