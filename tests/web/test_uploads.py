"""Bad uploads get an error response, leave no file, and do not stop the server."""

import dataclasses
import http.client
import json
import struct
import threading
import time
import zlib
from io import BytesIO
from urllib.parse import urlencode, urlsplit

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from lib.configuration.banner import Banner
from lib.images.reading import read_image
from tests.web.conftest import SlowBody, analyse_all, content, encoded, files_kept, page_client, png, send

GREY = np.tile(np.arange(64, dtype=np.uint8), (64, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(side: int) -> bytes:
    """A valid black PNG of `side` x `side` pixels: copies of one compressed block of 1 MiB of zeros."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    size = side * (side + 1)
    rest = zlib.compressobj(9, wbits=-15)
    end = rest.compress(bytes(size % 2**20)) + rest.flush()
    adler32 = struct.pack(">HH", size % 65521, 1)  # of zeros
    data = b"\x78\xda" + block * (size // 2**20) + end + adler32
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_png_bomb_is_a_valid_image():
    assert not np.asarray(Image.open(BytesIO(png_bomb(2000)))).any()


def dicom(array: np.ndarray, **elements) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.Rows, dataset.Columns = array.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = array.tobytes()
    dataset.PatientName = "Secret^Name"
    for name, value in elements.items():
        setattr(dataset, name, value)
    data = BytesIO()
    dataset.save_as(data, enforce_file_format=True)
    return data.getvalue()


BAD = {
    "empty": (b"", 400),
    "truncated": (png(GREY)[:-200], 400),
    "truncated JPEG": (encoded(GREY, "JPEG")[:300], 400),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n", 400),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', 400),
    "text": (b"angiogram", 400),
    "two frames": (encoded(GREY, "GIF", save_all=True, append_images=[Image.new("L", (64, 64))]), 400),
    "too many pixels": (b"P5 40000 40000 255\n", 413),
    "DICOM of too many pixels": (dicom(GREY, Rows=40_000, Columns=40_000), 413),
    "DICOM with burned-in text": (dicom(GREY, BurnedInAnnotation="YES"), 400),
    "DICOM Segmentation": (dicom(GREY, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), 400),
    "truncated DICOM": (dicom(GREY)[:200], 400),
    "damaged DICOM": (bytes(128) + b"DICM" + b"\xff" * 64, 400),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_file_is_refused_and_leaves_no_file(client, settings, kind):
    data, status = BAD[kind]
    answer = send(client, data, "1-1.png")
    assert answer.status_code == status
    assert answer.json()["message"]
    assert str(settings.FOLDER) not in answer.json()["message"]
    assert files_kept(settings) == []
    assert client.get("/results/").json() == {"results": []}
    assert send(client, png(GREY)).status_code == 201


def test_a_dicom_segmentation_is_refused_with_the_reason(client):
    refused = send(client, BAD["DICOM Segmentation"][0], "1-1_seg.dcm").json()["message"]
    assert refused.startswith("The image is a DICOM Segmentation, a result; expected a photograph")
    client.post("/language/", {"language": "zh-hans"})
    refused = send(client, BAD["DICOM Segmentation"][0], "1-1_seg.dcm").json()["message"]
    assert refused.startswith("图像无法使用：") and "Segmentation, a result" not in refused


def test_png_bomb_is_refused_by_its_header(client, settings, monkeypatch):
    data = png_bomb(40_000)
    assert len(data) < 2_000_000
    monkeypatch.setattr("PIL.Image.Image.load", lambda self: pytest.fail("a pixel was decoded"))
    answer = send(client, data)
    assert answer.status_code == 413
    assert "20 million" in answer.json()["message"]
    assert files_kept(settings) == []


@pytest.mark.parametrize(
    "name", ["../../evil.png", "..\\evil.png", "/etc/passwd", "..", "a\nb.png", "", "x" * 201]
)
def test_file_name_with_a_path_is_refused(client, settings, name):
    assert send(client, png(GREY), name).status_code == 400
    assert files_kept(settings) == []


def test_no_file_on_the_disk_has_the_uploaded_name(client, settings):
    assert send(client, png(GREY), "姓名 (1).png").json()["fileName"] == "姓名 (1).png"
    assert [name for name in files_kept(settings) if "姓名" in name] == []


def test_request_without_csrf_token_is_refused(web, client, settings):
    del client.defaults["HTTP_X_CSRFTOKEN"]
    answer = send(client, png(GREY))
    assert answer.status_code == 403
    assert "reload" in answer.json()["message"]
    assert files_kept(settings) == []


def test_multipart_form_is_refused(client, settings):
    answer = client.post("/results/?name=1.png", {"image": BytesIO(png(GREY))})
    assert answer.status_code == 400
    assert files_kept(settings) == []


def test_200_megabytes_are_refused_and_not_stored(server, settings):
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    block, size = bytes(2**20), 200 * 2**20
    body = (block for _ in range(size // len(block)))
    headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
    connection.request("POST", "/results/?name=1.png", body, headers)
    answer = connection.getresponse()
    assert answer.status == 413
    assert "64 MB" in json.loads(answer.read())["message"]
    assert files_kept(settings) == []
    assert http_status(server) == 200


def test_incomplete_body_leaves_no_file(server, settings):
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    connection.putrequest("POST", "/results/?name=1.png")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"\x89PNG")
    connection.close()
    assert http_status(server) == 200
    assert files_kept(settings) == []


def test_twenty_simultaneous_uploads(web, server, settings):
    """The queue takes some, the others get status 503; one image is analysed at a time."""
    from tests.web.conftest import darkness, network

    finish, running, most = threading.Event(), [], []

    def slow(images):
        running.append(1)
        most.append(len(running))
        finish.wait(30)
        running.pop()
        return darkness(images)

    web.network = network(slow)
    statuses, clients = [], [page_client() for _ in range(20)]
    threads = [
        threading.Thread(target=lambda c=c: statuses.append(send_to(server, c, png(GREY)))) for c in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = statuses.count(201)
    assert settings.MAX_WAITING <= accepted <= settings.MAX_WAITING + 1  # one may be in analysis
    assert statuses.count(503) == 20 - accepted
    finish.set()
    for _ in range(300):
        results = [r for c in clients for r in c.get("/results/").json()["results"]]
        if all(result["state"] == "done" for result in results):
            break
        threading.Event().wait(0.1)
    assert [result["state"] for result in results] == ["done"] * accepted
    assert max(most) == 1
    assert http_status(server) == 200


def test_two_first_uploads_at_the_same_time_belong_to_one_session(client):
    body = SlowBody(png(GREY), lambda: send(client, png(GREY), "2.png"))
    assert send(client, png(GREY), "1.png", **{"wsgi.input": body}).status_code == 201
    listed = client.get("/results/").json()["results"]
    assert [result["fileName"] for result in listed] == ["2.png", "1.png"]


def test_an_upload_of_an_expired_session_begins_a_new_one(client):
    from django.contrib.sessions.models import Session

    Session.objects.all().delete()
    assert send(client, png(GREY), "1.png").status_code == 201
    (result,) = client.get("/results/").json()["results"]
    assert result["fileName"] == "1.png"


def test_full_queue_returns_retry_after(client, settings):
    for _ in range(settings.MAX_WAITING):
        assert send(client, png(GREY)).status_code == 201
    before = files_kept(settings)
    answer = send(client, png(GREY))
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert answer.json()["message"] == "The server is full; try again shortly."
    settings.MAX_RESULTS = settings.MAX_WAITING
    assert "no room for another image" in send(client, png(GREY)).json()["message"]
    assert files_kept(settings) == before


def test_metadata_of_the_file_is_not_stored(client, settings):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Secret Name", 6  # rotated by 90 degrees
    assert send(client, encoded(GREY[:32], "JPEG", exif=exif), "1.jpg").status_code == 201
    assert send(client, dicom(GREY), "1.dcm").status_code == 201
    kept = [path for path in settings.FOLDER.rglob("*") if path.is_file()]
    assert b"Secret" not in content(kept)
    sizes = {Image.open(path).size for path in settings.RESULTS_FOLDER.glob("*/upload.png")}
    assert sizes == {(32, 64), (64, 64)}


def test_pixel_spacing_is_read_from_dicom(web, client, angiogram):
    send(client, dicom(angiogram.image, PixelSpacing=[0.01, 0.02]), "1.dcm")
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    assert result["pixelSpacing"] == [0.01, 0.02]
    table = client.get(f"{result['url']}download/measurements?threshold=0.5&min_area_px=0")
    assert "0.01 0.02" in table.content.decode("utf-8-sig")


def send_to(server: str, client, data: bytes) -> int:
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    cookies = "; ".join(f"{c.key}={c.value}" for c in client.cookies.values())
    headers = {"Cookie": cookies, "X-CSRFToken": client.defaults["HTTP_X_CSRFTOKEN"]}
    headers["Content-Type"] = "application/octet-stream"
    connection.request("POST", "/results/?name=1.png", data, headers)
    answer = connection.getresponse()
    for cookie in answer.headers.get_all("Set-Cookie", []):
        client.cookies.load(cookie)
    return answer.status


def http_status(server: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    connection.request("GET", "/")
    return connection.getresponse().status


def tiff_of_many_directories(number: int) -> bytes:
    """A TIFF file with so many images of one pixel; older readers walk through all of them."""
    entries = (
        (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1),
    )  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    size = len(directory) + 4
    parts = [b"II*\x00" + struct.pack("<I", 10) + b"\x00\x00"]
    for index in range(number):
        following = 10 + size * (index + 1) if index + 1 < number else 0
        parts.append(directory + struct.pack("<I", following))
    return b"".join(parts)


def test_a_file_that_takes_too_long_costs_its_limit_and_the_next_is_decoded(client, settings):
    from django.test import override_settings

    big = np.random.default_rng(0).integers(0, 256, (4000, 4500, 3), np.uint8)
    data = encoded(big, "PNG", compress_level=1)
    assert send(client, png(GREY)).status_code == 201  # the decoder has started
    before = files_kept(settings)
    with override_settings(MAX_DECODING_SECONDS=0.05):
        answer = send(client, data)
    assert answer.status_code == 400
    assert "too long to read" in answer.json()["message"]
    assert files_kept(settings) == before
    assert send(client, png(GREY)).status_code == 201


def test_a_tiff_of_60_000_directories_does_not_stop_the_page(client, settings):
    from django.test import override_settings

    with override_settings(MAX_DECODING_SECONDS=5):
        sending = threading.Thread(target=send, args=(client, tiff_of_many_directories(60_000)))
        sending.start()
        started, longest = time.monotonic(), 0.0
        while sending.is_alive():
            before = time.monotonic()
            assert page_client().get("/results/").status_code == 200
            longest = max(longest, time.monotonic() - before)
        assert longest < 2
        assert time.monotonic() - started < 20
    assert files_kept(settings) == []


def test_memory_of_the_decoder_is_limited(web, tmp_path):
    import resource

    from web.decoding import MEMORY_BYTES

    (tmp_path / "a.png").write_bytes(png(GREY))
    decoder = web.decoder
    assert decoder.decode(tmp_path / "a.png", tmp_path / "b.png", 10**6, 30)["height"] == 64
    limits = resource.prlimit(decoder._process.pid, resource.RLIMIT_AS)
    assert limits == (MEMORY_BYTES, MEMORY_BYTES)


def test_kinds_that_pillow_does_not_know_are_decoded_and_their_size_is_limited(web, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).random((64, 48)))  # float64
    found = web.decoder.decode(tmp_path / "a.tif", tmp_path / "b.png", 10**6, 30)
    assert (found["height"], found["width"]) == (64, 48)
    refused = web.decoder.decode(tmp_path / "a.tif", tmp_path / "c.png", 1000, 30)
    assert refused == {"refused": "too many pixels"} and not (tmp_path / "c.png").exists()


def test_a_dicom_file_without_an_image_is_named(client):
    data = dicom(GREY)
    document = pydicom.dcmread(BytesIO(data))
    for name in ("Rows", "Columns", "PixelData"):
        delattr(document, name)
    stream = BytesIO()
    document.save_as(stream)
    assert (
        send(client, stream.getvalue(), "1.dcm")
        .json()["message"]
        .startswith("The image is a DICOM file without")
    )


def test_burned_in_text_is_accepted_if_the_network_has_another_banner_setting(client, web):
    data = dicom(GREY, BurnedInAnnotation="YES")
    assert send(client, data, "1-1.dcm").status_code == 400
    web.network = dataclasses.replace(web.network, info_banner=None)
    assert send(client, data, "1-1.dcm").status_code == 201


def test_the_strip_of_the_network_does_not_change_the_scaling_of_16_bit_images(client, web, tmp_path):
    from web.models import Result

    pixels = np.tile(np.arange(2000, 3000, 10, dtype=np.uint16), (100, 1))
    pixels[70:, ::2] = 65535
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    banner = Banner("bottom", 30)
    web.network = dataclasses.replace(web.network, info_banner=banner)
    assert send(client, stream.getvalue()).status_code == 201
    decoded = np.asarray(Image.open(Result.objects.get().upload_file))
    assert np.array_equal(decoded, read_image(tmp_path / "a.png", banner))
    assert decoded[:70].max() == 255


def test_a_file_whose_decoder_dies_is_refused(web, tmp_path):
    (tmp_path / "a.png").write_bytes(png(GREY))
    assert "height" in web.decoder.decode(tmp_path / "a.png", tmp_path / "b.png", 10**6, 30)
    web.decoder._process.kill()
    web.decoder._process.wait()
    assert "height" in web.decoder.decode(tmp_path / "a.png", tmp_path / "b.png", 10**6, 30)


def left_unread(client, size: int, name="1.png", **extra):
    """Status of an upload, and how many of its bytes the server did not read."""
    body = BytesIO(bytes(size))
    answer = client.generic(
        "POST", f"/results/?{urlencode({'name': name})}", content_type="image/png",
        CONTENT_LENGTH=str(size), **{"wsgi.input": body}, **extra,
    )  # fmt: skip
    return answer.status_code, size - body.tell()


@pytest.mark.parametrize("why", ["name", "token", "queue", "slots", "size"])
def test_every_refusal_reads_the_body_first(web, client, settings, why, monkeypatch):
    from django.test import override_settings

    size, name, changes, status = 300_000, "1.png", {}, 503
    if why == "name":
        name, status = "a/b", 400
    elif why == "token":
        del client.defaults["HTTP_X_CSRFTOKEN"]
        status = 403
    elif why == "size":
        changes, status = {"MAX_UPLOAD_BYTES": 200_000}, 413
    elif why == "queue":
        changes = {"MAX_WAITING": 0}
    else:
        monkeypatch.setattr(web, "upload_slots", threading.BoundedSemaphore(1))
        web.upload_slots.acquire()
    with override_settings(**changes):
        assert left_unread(client, size, name) == (status, 0)
    assert files_kept(settings) == []


def test_the_body_of_a_stranger_is_not_read(web, settings):
    from django.test import Client, override_settings

    stranger = Client(headers={"host": "127.0.0.1"}, enforce_csrf_checks=True)
    with override_settings(ACCOUNTS_REQUIRED=True, AXES_ENABLED=True):
        assert left_unread(stranger, 300_000) == (403, 300_000)
        form = {"content_type": "multipart/form-data; boundary=x"}
        body = BytesIO(b"--x\r\n" + bytes(100_000))
        answer = stranger.generic(
            "POST", "/results/", CONTENT_LENGTH="100005", **form, **{"wsgi.input": body}
        )
        assert (answer.status_code, body.tell()) == (403, 0)


def test_a_very_long_body_is_read_in_part_only(client):
    from django.test import override_settings

    with override_settings(MAX_UPLOAD_BYTES=2**17):
        status, left = left_unread(client, 3 * 2**20)
    assert status == 413 and 3 * 2**20 - 10 * 2**17 - 2**17 <= left <= 3 * 2**20 - 10 * 2**17
