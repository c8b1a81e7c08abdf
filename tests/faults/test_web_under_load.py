"""The web page while many clients upload at once or hold slow connections, and its end by SIGTERM."""

import pytest

from benchmarks.web_under_load import measure
from tests.lib.networks.test_onnx_metadata import model_of, older_metadata, written

pytestmark = pytest.mark.faults


def test_the_page_answers_and_no_worker_is_killed(tmp_path):
    pytest.importorskip("django", reason="pip install -r requirements/web.txt")
    found = measure(written(tmp_path, model_of(), older_metadata()), rounds=4, uploads=50, slows=10)
    assert set(found["uploads"]) == {"201", "503"} and found["uploads"]["201"] >= 12
    assert found["slowest page s"] < 2 and found["slowest page beside them s"] < 2
    assert found["slow connections"]["longest s"] < 15  # the server ends them
    assert found["pages"] > 20 and found["pages failed"] == []
    assert found["workers ended"] == 0
    assert found["exit code"] == 0 and found["images left"] == 0
    assert not [line for line in found["log"] if "Traceback" in line or "abort" in line.lower()]
