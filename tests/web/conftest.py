import os
import shutil
import subprocess
import threading
from io import BytesIO
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.configuration.reading import read_configuration
from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.networks.trained_network import TrainedNetwork
from lib.runtime.paths import PROJECT
from tests.conftest import weightless_network


def darkness(images: np.ndarray) -> np.ndarray:
    """Probability of non-perfusion without a trained network: high where the blurred image is dark."""
    blurred = np.stack([cv2.GaussianBlur(image[..., 0], (0, 0), 5) for image in images])
    return (1 / (1 + np.exp(60 * (blurred - 0.09)))).astype(np.float32)[..., None]


def left_darkness(images: np.ndarray) -> np.ndarray:
    """`darkness` that falls from the left to the right, so that mirror images give something else."""
    return darkness(images) * np.linspace(1, 0.2, images.shape[2], dtype=np.float32)[:, None]


def network(predict=darkness, tta="none") -> TrainedNetwork:
    settings = [
        f"testing settings.tta={tta}",
        "testing settings.test_patch_height=256",
        "testing settings.test_patch_width=256",
        "testing settings.stride_height=256",
        "testing settings.stride_width=256",
    ]
    configuration = read_configuration(PROJECT / "configurations" / "demo.txt", settings)
    return weightless_network(predict, configuration)


@pytest.fixture(scope="session")
def web(tmp_path_factory):
    """The application with a database in a temporary folder; tests may replace its network."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "web.settings",
        "CNP_WEB_FOLDER": str(tmp_path_factory.mktemp("web")),
        "CNP_WEB_ACCESS": "local",
    }
    pytest.importorskip("django", reason="pip install -r requirements/web.txt").setup()
    from django.apps import apps

    from web.start import migrate_database

    migrate_database()
    return apps.get_app_config("web")


@pytest.fixture(autouse=True)
def clean(web):
    """Each test starts with an empty queue and no stored results."""
    from web.analysis_queue import delete
    from web.models import Result

    web.network = network()
    yield
    delete(Result.objects.all())


@pytest.fixture
def settings(web):
    from django.conf import settings

    return settings


@pytest.fixture
def client(web):
    return page_client()


def page_client():
    """A test client that has opened the page; it has an own session and a CSRF token."""
    from django.test import Client

    client = Client(enforce_csrf_checks=True, headers={"host": "127.0.0.1"})
    client.get("/")
    client.defaults["HTTP_X_CSRFTOKEN"] = client.cookies["csrftoken"].value
    return client


def send(client, data: bytes, name="1-1.png", **extra):
    address = f"/results/?{urlencode({'name': name})}"
    return client.post(address, data, content_type="application/octet-stream", **extra)


class SlowBody(BytesIO):
    """The body of an upload, as `wsgi.input`; `meanwhile` is called while the server receives it."""

    def __init__(self, data: bytes, meanwhile):
        super().__init__(data)
        self.meanwhile = meanwhile

    def read(self, size=-1):
        if self.tell() == 0:
            self.meanwhile()
        return super().read(size)


def analyse_all(web):
    from web.analysis_queue import analyse_next

    while analyse_next(web.network):
        pass


def png(array: np.ndarray, **options) -> bytes:
    return encoded(array, "PNG", **options)


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    data = BytesIO()
    Image.fromarray(array).save(data, kind, **options)
    return data.getvalue()


def picture(answer) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(b"".join(answer) if answer.streaming else answer.content)))


def files_kept(settings) -> list[str]:
    """All files on the disk that an upload created."""
    folders = (settings.RESULTS_FOLDER, settings.UPLOAD_FOLDER)
    return [str(path) for folder in folders for path in folder.rglob("*")]


@pytest.fixture(scope="session")
def angiogram():
    return synthetic_angiogram(seed=7, index=1, size=256)


@pytest.fixture
def server(web):
    """URL of a running server with request threads and an analysis thread."""
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application

    from web.analysis_queue import AnalysisThread

    analysis = AnalysisThread()
    analysis.start()
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    analysis.ending.set()
    web.uploaded.set()
    analysis.join()


def content(files) -> bytes:
    """The bytes of files, read by another process: a process that closes a file loses its locks of SQLite."""
    return subprocess.run(["cat", *files], check=True, capture_output=True).stdout


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
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
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
