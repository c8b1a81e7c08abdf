"""Corrections of a mask by hand: what is stored, what is refused, and what follows from them."""

import csv
import json
import threading
import zlib
from io import StringIO

import numpy as np
import pytest

from lib.images.labelme import rasterise, read_labelme
from tests.web.conftest import analyse_all, files_kept, page_client, picture, png, send

CHOICE = {"threshold": 0.5, "min_area_px": 20}


@pytest.fixture
def result(web, client, angiogram):
    """An analysed angiogram, in the JSON form that the page's scripts receive."""
    send(client, png(angiogram.image), "3-1.png")
    analyse_all(web)
    return client.get("/results/").json()["results"][0]


def put(client, result, correction: np.ndarray | bytes, replaced: str = "", **headers):
    """Send a correction; `replaced` is the ETag of the one that it replaces, by default of the stored one."""
    body = correction if isinstance(correction, bytes) else zlib.compress(correction.tobytes())
    address = f"{result['url']}correction"
    headers["if-match"] = replaced or client.get(address).headers.get("ETag", "")
    return client.put(address, body, content_type="application/octet-stream", headers=headers)


def strokes(result, angiogram) -> np.ndarray:
    """A stroke of 10x10 pixels added at the fovea, and the lower half erased."""
    correction = np.zeros((result["height"], result["width"]), np.uint8)
    column, row = (int(n) for n in angiogram.fovea)
    correction[128:] = 2
    correction[row : row + 10, column : column + 10] = 1
    return correction


def mask_of(client, result) -> np.ndarray:
    return picture(client.get(f"{result['url']}download/mask", CHOICE)) > 0


def table_of(client, result) -> dict:
    text = client.get(f"{result['url']}download/measurements", CHOICE).content.decode("utf-8-sig")
    return next(csv.DictReader(StringIO(text)))


def test_files_and_measurements_follow_the_correction(client, result, angiogram, tmp_path):
    before = mask_of(client, result)
    assert before[128:].any() and table_of(client, result)["corrected_px"] == "0"
    correction = strokes(result, angiogram)
    assert put(client, result, correction).status_code == 204
    expected = np.where(correction == 1, True, np.where(correction == 2, False, before))
    assert (mask_of(client, result) == expected).all()
    row = table_of(client, result)
    assert int(row["area_px"]) == expected.sum()
    assert int(row["corrected_px"]) == (expected != before).sum()
    labelme = client.get(f"{result['url']}download/labelme", CHOICE).content
    (tmp_path / "3-1.json").write_bytes(labelme)
    (tmp_path / "3-1.png").write_bytes(png(angiogram.image))
    drawn = rasterise(read_labelme(tmp_path / "3-1.json"), ["NP"], [], 256, 256) > 0
    assert (drawn & expected).sum() / (drawn | expected).sum() >= 0.99
    assert json.loads(labelme)["version"].startswith("5.")

    (again,) = client.get("/results/").json()["results"]
    assert again["isCorrected"] and not result["isCorrected"]
    assert client.get(f"{result['url']}correction").content == correction.tobytes()
    assert put(client, result, np.zeros_like(correction)).status_code == 204
    assert (mask_of(client, result) == before).all()
    assert not client.get("/results/").json()["results"][0]["isCorrected"]


def test_nothing_is_added_outside_the_field_of_view(client, result, angiogram):
    put(client, result, np.ones((256, 256), np.uint8))
    mask = mask_of(client, result)
    assert mask.any() and not mask[0, 0]
    assert float(table_of(client, result)["ischaemic_index"]) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no zlib", 400),
        (zlib.compress(bytes(256 * 256 - 1)), 400),
        (zlib.compress(bytes(256 * 256 + 1)), 400),
        (zlib.compress(bytes(500 * 2**20)), 400),  # expands to much more than the image
        (zlib.compress(bytes([3]) * 256 * 256), 400),
        (b"\0" * (2**20 + 1), 413),
    ],
)
def test_a_wrong_correction_is_refused(client, settings, result, body, status):
    kept = files_kept(settings)
    answer = put(client, result, body)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert files_kept(settings) == kept


def test_a_correction_needs_the_session_and_the_csrf_token(web, client, result, angiogram):
    correction = strokes(result, angiogram)
    assert put(page_client(), result, correction).status_code == 404
    assert page_client().get(f"{result['url']}correction").status_code == 404
    assert put(client, result, correction, **{"x-csrftoken": "wrong"}).status_code == 403
    assert not client.get("/results/").json()["results"][0]["isCorrected"]


def test_a_correction_is_deleted_with_its_image(client, settings, result, angiogram):
    put(client, result, strokes(result, angiogram))
    client.delete(result["url"])
    assert files_kept(settings) == []
    assert put(client, result, strokes(result, angiogram)).status_code == 404
    assert files_kept(settings) == []


def test_a_correction_does_not_replace_that_of_another_tab(client, settings, result, angiogram):
    first = strokes(result, angiogram)
    second = np.roll(first, 20)
    opened = client.get("/results/").json()["results"][0]["correctionETag"]  # by both tabs
    stored = put(client, result, first, opened)
    assert stored.status_code == 204
    for refused in (second, np.zeros_like(first)):
        answer = put(client, result, refused, opened)
        assert answer.status_code == 412
        assert answer.json()["message"] == "The outline was corrected in another tab; reload the page."
    address = f"{result['url']}correction"
    body = zlib.compress(second.tobytes())
    assert (
        client.put(address, body, content_type="application/octet-stream").status_code == 412
    )  # no If-Match
    assert client.get(address).content == first.tobytes()
    assert put(client, result, first, opened).status_code == 204  # again, because the answer was lost

    listed = client.get("/results/").json()["results"][0]["correctionETag"]
    assert stored["ETag"] == client.get(address)["ETag"] == listed != opened
    removed = put(client, result, np.zeros_like(first), listed)
    assert removed["ETag"] == opened
    assert put(client, result, second, opened).status_code == 204


@pytest.mark.parametrize("kind", ["measurement", "download/mask", "download/measurements"])
def test_files_and_measurements_are_not_of_the_correction_of_another_tab(client, result, angiogram, kind):
    shown = result["correctionETag"]
    stored = put(client, result, strokes(result, angiogram), shown)["ETag"]
    answer = client.get(f"{result['url']}{kind}", CHOICE | {"correction": shown})
    assert answer.status_code == 412
    assert "another tab" in answer.json()["message"]
    assert client.get(f"{result['url']}{kind}", CHOICE | {"correction": stored}).status_code == 200


def test_of_two_corrections_at_the_same_time_one_is_refused(client, result, angiogram):
    from django.db import connection

    opened, statuses = result["correctionETag"], []

    def correct(value):
        statuses.append(put(client, result, np.roll(strokes(result, angiogram), value), opened).status_code)
        connection.close()

    tabs = [threading.Thread(target=correct, args=[value]) for value in range(6)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert sorted(statuses) == [204, *5 * [412]]
