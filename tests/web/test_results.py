"""Results of an upload: queue, picture, measurements, downloads, ownership, deletion."""

import ast
import csv
import gettext
import json
import os
import re
from datetime import timedelta
from io import BytesIO, StringIO

import cv2
import numpy as np
import pytest
from PIL import Image

from lib.images.labelme import rasterise, read_labelme
from lib.images.masks import without_small_areas
from lib.networks.batches import HalfBatchRetry
from lib.prediction.certainty.image_quality import ImageQuality
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.web.conftest import (
    analyse_all,
    content,
    encoded,
    files_kept,
    network,
    page_client,
    picture,
    png,
    send,
)
from tests.web.test_uploads import dicom


@pytest.fixture
def result(web, client, angiogram):
    """An analysed angiogram, in the JSON form that the page's scripts receive."""
    assert send(client, png(angiogram.image), "3-1 眼.png").status_code == 201
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    assert result["state"] == "done"
    return result


def probability(client, result) -> np.ndarray:
    data = b"".join(client.get(f"{result['url']}probability").streaming_content)
    return np.frombuffer(data, "<f4").reshape(result["height"], result["width"])


def choice(**other) -> dict:
    return {"threshold": 0.3, "min_area_px": 60} | other


def test_picture_and_probability_of_a_result(client, result, angiogram):
    assert (picture(client.get(f"{result['url']}picture")) == angiogram.image).all()
    found = probability(client, result)
    outside = np.isnan(found)
    assert np.count_nonzero(outside != (angiogram.field_of_view == 0)) < 0.01 * outside.size
    assert 0 <= np.nanmin(found) < 0.3 < np.nanmax(found) <= 1
    assert result["threshold"] == 0.5
    assert result["minAreaPx"] == 20


def test_downloads_use_the_chosen_threshold(client, result, tmp_path, angiogram):
    found = probability(client, result)
    expected = without_small_areas(found >= np.float32(0.3), 60)
    assert expected.any()
    assert (expected != (found >= 0.5)).any()
    address = f"{result['url']}download"
    mask = client.get(f"{address}/mask", choice())
    assert (picture(mask) == expected * 255).all()
    assert "3-1%20%E7%9C%BC_mask.png" in mask["Content-Disposition"]

    (tmp_path / "3-1 眼.png").write_bytes(png(angiogram.image))
    (tmp_path / "3-1 眼.json").write_bytes(client.get(f"{address}/labelme", choice()).content)
    annotation = read_labelme(tmp_path / "3-1 眼.json")
    assert annotation.image_path_name == "3-1 眼.png"
    drawn = rasterise(annotation, ["NP"], [], 256, 256) > 0
    assert (drawn & expected).sum() / (drawn | expected).sum() >= 0.99

    overlay = picture(client.get(f"{address}/overlay", choice()))
    shown = overlay[:1024].astype(int)  # 256 x 256 enlarged by 4, and a strip of text
    coloured = shown[..., 0] > shown[..., 2]
    mask = expected.repeat(4, 0).repeat(4, 1).astype(np.uint8)
    assert overlay.shape[0] > 1024 == overlay.shape[1]
    assert coloured[cv2.erode(mask, np.ones((7, 7))) > 0].all()
    assert not coloured[cv2.dilate(mask, np.ones((7, 7))) == 0].any()


def test_downloads_of_a_dicom_file_that_is_named_by_its_uid_have_the_whole_name(web, client, angiogram):
    send(client, dicom(angiogram.image), "1.2.840.113.1.5")
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    for kind, suffix in {"mask": "_mask.png", "labelme": ".json"}.items():
        answer = client.get(f"{result['url']}download/{kind}", choice())
        assert answer["Content-Disposition"] == f'attachment; filename="1.2.840.113.1.5{suffix}"'
    assert answer.json()["imagePath"] == "1.2.840.113.1.5.png"


def test_downloaded_table_has_the_columns_of_run_prediction(client, result):
    fovea = {"fovea_row": 100, "fovea_column": 120, "pixel_spacing_mm": 0.02}
    text = client.get(f"{result['url']}download/measurements", choice(**fovea)).content
    (row,) = csv.DictReader(StringIO(text.decode("utf-8-sig")))
    mask = without_small_areas(probability(client, result) >= np.float32(0.3), 60)
    assert row["image"] == "3-1 眼.png"
    assert int(row["area_px"]) == mask.sum()
    assert float(row["area_mm2"]) == pytest.approx(mask.sum() * 0.02**2)
    assert row["threshold"] == "0.3"
    assert row["threshold_source"] == "chosen on the web page"
    assert row["min_area_px"] == "60"
    assert row["model"] == "darkness"
    quadrants = ("superior", "inferior", "left", "right")
    assert sum(int(row[f"area_px_{name}"]) for name in quadrants) == mask.sum()
    asked = client.get(f"{result['url']}measurement", choice(**fovea)).json()
    assert {name: str(asked[name]) for name in ("area_px", "ischaemic_index_outer_ring")} == {
        name: row[name] for name in ("area_px", "ischaemic_index_outer_ring")
    }
    own = {"threshold": 0.5, "min_area_px": 20}
    text = client.get(f"{result['url']}download/measurements", own).content.decode("utf-8-sig")
    assert next(csv.DictReader(StringIO(text)))["threshold_source"] == "configuration"


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": "nan"},
        {"threshold": 1.5},
        {"threshold": ""},
        {"min_area_px": -1},
        {"pixel_spacing_mm": 0},
        {"fovea_row": 3},
        {"fovea_row": 3, "fovea_column": 256},
    ],
)
def test_wrong_settings_are_refused(client, result, wrong):
    answer = client.get(f"{result['url']}measurement", choice(**wrong))
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_file_name_like_a_formula_is_quoted_in_the_table(web, client, angiogram):
    send(client, png(angiogram.image), "=1+1.png")
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    text = client.get(f"{result['url']}download/measurements", choice()).content
    assert b"\n'=1+1.png," in text


def test_results_are_hidden_from_other_sessions(client, result):
    stranger = page_client()
    parts = ["picture", "probability", "measurement?threshold=.5&min_area_px=0"]
    parts += [f"download/{kind}?threshold=.5&min_area_px=0" for kind in ("mask", "labelme")]
    for part in parts:
        assert stranger.get(f"{result['url']}{part}").status_code == 404
        answer = client.get(f"{result['url']}{part}")
        assert answer.status_code == 200
        answer.close()
    assert stranger.delete(result["url"]).status_code == 404
    assert stranger.delete("/results/").status_code == 204
    assert stranger.get("/results/").json() == {"results": []}
    assert client.get(f"{result['url']}picture").status_code == 200


@pytest.mark.parametrize("key", ["x", "..%2f..%2fsecret_key", "0" * 32])
def test_unknown_key_is_not_found(client, key):
    answer = client.get(f"/results/{key}/picture")
    assert answer.status_code == 404
    assert answer.json()["message"]


def test_delete_one_result(client, settings, result):
    assert files_kept(settings) != []
    assert client.delete(result["url"]).status_code == 204
    assert files_kept(settings) == []
    assert client.get(f"{result['url']}picture").status_code == 404


def test_delete_all_keeps_results_of_other_sessions(web, client, settings, result, angiogram):
    other = page_client()
    send(other, png(angiogram.image))
    assert client.delete("/results/").status_code == 204
    assert len(other.get("/results/").json()["results"]) == 1
    assert client.get("/results/").json() == {"results": []}


def test_the_time_left_does_not_depend_on_the_clock_of_the_browser(client, settings, result):
    from web.models import Result

    assert settings.KEPT_SECONDS - 60 < result["secondsLeft"] <= settings.KEPT_SECONDS
    Result.objects.update(uploaded=Result.objects.get().uploaded - timedelta(seconds=1000))
    (later,) = client.get("/results/").json()["results"]
    assert result["secondsLeft"] - 1060 < later["secondsLeft"] <= result["secondsLeft"] - 1000


def test_expired_results_are_hidden_and_deleted(client, settings, result):
    from web.analysis_queue import delete_expired
    from web.models import Result

    kept = Result.objects.get()
    delete_expired()
    assert files_kept(settings) != []
    Result.objects.update(uploaded=kept.uploaded - timedelta(seconds=settings.KEPT_SECONDS + 1))
    assert client.get(f"{result['url']}picture").status_code == 404  # before delete_expired runs
    delete_expired()
    assert files_kept(settings) == []
    assert not Result.objects.exists()


def test_old_files_of_killed_processes_are_deleted(settings):
    from web.analysis_queue import delete_expired

    orphan, upload = settings.RESULTS_FOLDER / "orphan", settings.UPLOAD_FOLDER / "tmp1"
    orphan.mkdir()
    (orphan / "picture.png").write_bytes(b"")
    upload.write_bytes(b"")
    delete_expired()
    assert len(files_kept(settings)) == 3
    for path in (orphan, upload):
        os.utime(path, (0, 0))
    delete_expired()
    assert files_kept(settings) == []


def test_interrupted_analysis_is_marked_as_failed(client, settings, angiogram):
    from web.analysis_queue import _next, fail_interrupted

    send(client, png(angiogram.image))
    assert _next().process == os.getpid()
    fail_interrupted()
    (result,) = client.get("/results/").json()["results"]
    assert result["state"] == "failed"
    assert "interrupted" in result["message"]
    assert files_kept(settings) == []


def test_failed_analysis_does_not_stop_the_queue(web, client, settings, angiogram, caplog):
    def failing(images):
        raise RuntimeError("no memory")

    send(client, png(angiogram.image))
    web.network = network(failing)
    analyse_all(web)
    web.network = network()
    send(client, png(np.zeros((64, 64), np.uint8)), "black.png")
    send(client, png(angiogram.image))
    analyse_all(web)
    failed, black, done = client.get("/results/").json()["results"]
    assert failed["message"] == "The analysis failed; see the server's log."
    assert "no memory" in caplog.text
    assert "field of view is empty" in black["message"]
    assert str(settings.FOLDER) not in black["message"]
    assert done["state"] == "done"
    assert len(list(settings.RESULTS_FOLDER.iterdir())) == 1


def test_a_fault_of_the_network_is_logged_and_its_path_is_not_shown(web, client, settings, angiogram, caplog):
    from web.start import model_file

    fault = f"{model_file(settings.MODEL)}: gives values from nan to nan"

    def damaged(images):
        raise UserError(fault)

    send(client, png(angiogram.image))
    web.network = network(damaged)
    analyse_all(web)
    (failed,) = client.get("/results/").json()["results"]
    assert failed["message"] == "The analysis failed; see the server's log."
    assert fault in caplog.text


def test_delete_during_the_analysis(web, client, settings, angiogram):
    from tests.web.conftest import darkness

    url = send(client, png(angiogram.image)).json()["url"]

    def deleting_network(images):
        assert client.delete(url).status_code == 204
        return darkness(images)

    web.network = network(deleting_network)
    analyse_all(web)
    assert files_kept(settings) == []
    assert client.get("/results/").json() == {"results": []}


def assert_gone(answer):
    assert answer.status_code == 404
    assert "no such result" in answer.json()["message"]


@pytest.mark.parametrize("kind", ["measurement", "download/mask"])
def test_delete_between_the_row_and_the_files_of_a_request(client, result, kind, monkeypatch):
    from web import views

    found = views._done

    def found_and_deleted(request, key):
        row = found(request, key)
        row.probability_file.unlink()
        return row

    monkeypatch.setattr(views, "_done", found_and_deleted)
    assert_gone(client.get(f"{result['url']}{kind}", choice()))


@pytest.mark.parametrize("kind", ["overlay", "labelme"])
def test_delete_between_the_measurement_and_the_content_of_a_download(
    web, client, angiogram, kind, monkeypatch
):
    from web import views

    send(client, dicom(angiogram.image), "1.dcm")  # its LabelMe file contains the picture
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    measure_result = views.measure_result

    def measured_and_deleted(row, chosen):
        measured = measure_result(row, chosen)
        row.picture_file.unlink()
        return measured

    monkeypatch.setattr(views, "measure_result", measured_and_deleted)
    assert_gone(client.get(f"{result['url']}download/{kind}", choice()))


def test_position_in_the_queue(client, angiogram):
    other = page_client()
    for sender in (client, other, client):
        send(sender, png(angiogram.image))
    assert [r["position"] for r in client.get("/results/").json()["results"]] == [1, 3]
    assert [r["position"] for r in other.get("/results/").json()["results"]] == [2]


def test_banner_is_blackened_and_reported(web, client, angiogram):
    from PIL import ImageDraw

    frame = Image.new("L", (256, 300), 30)
    frame.paste(Image.fromarray(angiogram.image), (0, 0))
    ImageDraw.Draw(frame).text((10, 270), "SECRET NAME 1970-01-01 OD", fill=255)
    send(client, encoded(np.asarray(frame), "PNG"))
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    assert result["banner"] == "bottom strip of 44 pixels"
    shown = picture(client.get(f"{result['url']}picture"))
    assert shown.shape == (300, 256)
    assert not shown[256:].any()
    document = client.get(f"{result['url']}download/labelme", choice()).content
    assert json.loads(document)["imageHeight"] == 300


def test_page_in_both_languages(client):
    english = client.get("/").content.decode()
    assert "Not a medical device" in english
    assert "ischaemic index" in english
    client.post("/language/", {"language": "zh-hans"})
    chinese = client.get("/").content.decode()
    assert "非医疗器械" in chinese
    assert "缺血指数" in chinese
    assert "Not a medical" not in chinese
    assert send(client, b"").json()["message"] == "文件为空。"


def test_chinese_catalogue_is_complete_and_compiled(settings):
    folder = settings.LOCALE_PATHS[0] / "zh_Hans" / "LC_MESSAGES"
    source = (folder / "django.po").read_text(encoding="utf-8")
    written = dict(re.findall(r'^msgid "(.+)"\nmsgstr "(.*)"$', source, re.MULTILINE))
    with (folder / "django.mo").open("rb") as stream:
        compiled = gettext.GNUTranslations(stream)
    assert {text: compiled.gettext(text) for text in written} == written
    assert all(written.values())
    assert texts_to_translate(settings.STATIC_ROOT.parent) - written.keys() == set()


def texts_to_translate(folder) -> set[str]:
    """The arguments of gettext and its kin in Python, and the texts in the templates."""
    found = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {
                "_",
                "gettext_lazy",
                "gettext_noop",
            }:
                found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    for file in folder.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"""{% translate ["'](.+?)["'] %}""", text))
        blocks = re.findall(r"{% blocktranslate.*?%}(.+?){% endblocktranslate %}", text)
        found |= {re.sub(r"{{ (\w+) }}", r"%(\1)s", block) for block in blocks}
    return found


def messages_of_lib() -> set[str]:
    """The texts of the errors that reading and analysing an image may raise, with 7 for each value in them."""
    files = [
        PROJECT / "lib" / "images" / f"{name}.py" for name in ("reading", "field_of_view", "info_banner")
    ]
    files += [
        *(PROJECT / "lib" / "images" / "formats").glob("*.py"),
        PROJECT / "lib/prediction/image_file.py",
    ]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                (text,) = node.args
                parts = getattr(text, "values", [text])
                found.add(
                    "".join(
                        getattr(part, "value", None) if isinstance(part, ast.Constant) else "7"
                        for part in parts
                    )
                )
    return found - {"7"}  # the whole text is in a variable


def test_messages_of_lib_are_translated():
    from django.utils.translation import override

    from lib.configuration.banner import Banner
    from lib.images.checked_files import TOO_LARGE
    from lib.images.reading import _HIDDEN, _REFUSED_KINDS
    from web.lib_messages import translated

    shown = {
        text.removeprefix("7: ").replace("; 7", "; export the one to be used as a single image")
        for text in messages_of_lib()
    }
    shown |= {TOO_LARGE, _HIDDEN, *(text for _, text in _REFUSED_KINDS)}
    with pytest.raises(UserError) as cut:
        Banner("bottom", 9).cut(np.zeros((9, 9), np.uint8))

    def too_large(_images):
        raise MemoryError("std::bad_alloc")

    with pytest.raises(UserError) as memory:
        HalfBatchRetry(too_large)(np.zeros((1, 64, 64, 1), np.float32))
    shown |= {str(cut.value), str(memory.value)}
    shown |= {str(Banner(side, 44)) for side in ("top", "bottom", "left", "right")}
    masks = {text for text in shown if "a mask has two" in text or "0 background" in text}
    with override("zh-hans"):
        assert {text for text in shown - masks if translated(text) == text} == set()
        assert (
            translated("has 3 frames; export the one to be used as a single image")
            == "含有 3 帧，请将所需的一帧导出为单幅图像"
        )
    kinds = {text for text in shown if re.match("is an? .+; (export|save) (it|the image in it) as ", text)}
    kinds |= {
        "is a TIFF of 16-bit signed grey (white is zero) with further channels; export it as PNG",
        "is a TIFF of 32-bit floating-point CMYK in separate colour planes; export it as PNG (or it is damaged)",
        "is a TIFF of 8-bit photometric interpretation 77 with alpha; export it as PNG",
        "is a JPEG 2000 of signed 12-bit colours; export it as PNG",
    }
    with override("zh-hans"):
        english = {text: re.findall(r"\b[a-z]{2,}\b", translated(text)) for text in kinds}
        assert {text: words for text, words in english.items() if words} == {}
        assert translated("is a PDF document; export the image in it as PNG").startswith("类型为 PDF 文档，")
    with override("en"):
        assert {text for text in shown | kinds if translated(text) != text} == set()
    assert len(shown) > 40 and len(kinds) > 12
    assert translated("another text") == "another text"


def test_every_fault_of_an_image_has_a_text(web):
    from web.views import _doubts

    faults = ImageQuality(0, 1, 0, 0).faults
    assert len(_doubts({"quality": "; ".join(faults), "differs_from_training": ""})) == len(faults) == 4


def test_faults_of_the_image_are_named(web, client, angiogram):
    send(client, png((angiogram.image * 0.1).astype(np.uint8)))
    send(client, png(cv2.GaussianBlur(angiogram.image, (0, 0), 4)))
    analyse_all(web)
    dark, blurred = (r["doubts"] for r in client.get("/results/").json()["results"])
    assert dark.split("; ")[0] == "the image is dark"
    assert blurred == "the image is blurred"
    client.post("/language/", {"language": "zh-hans"})
    assert client.get("/results/").json()["results"][1]["doubts"] == "图像模糊"


def test_errors_of_the_analysis_are_shown_in_chinese(web, client, angiogram):
    from dataclasses import replace

    from lib.networks.trained_network import TrainingImages

    web.network = replace(network(), training_images=TrainingImages(500, 520, colour=False))
    client.post("/language/", {"language": "zh-hans"})
    coloured = (angiogram.image[..., None] * np.array([1, 0.6, 0.3])).astype(np.uint8)
    send(client, png(coloured))
    send(client, png(np.zeros((64, 64), np.uint8)))
    analyse_all(web)
    coloured, black = client.get("/results/").json()["results"]
    assert "彩色" in coloured["doubts"] and "视野直径" in coloured["doubts"]
    assert black["message"] == "视野为空（可能是全黑图像）"
    stack = BytesIO()
    frame = Image.fromarray(angiogram.image)
    frame.save(stack, "TIFF", save_all=True, append_images=[frame])
    assert send(client, stack.getvalue()).json()["message"].startswith("图像无法使用：含有 2 帧")
    asked = client.get(f"{coloured['url']}measurement", choice(fovea_row=3, fovea_column=256))
    assert asked.json()["message"].startswith("中心凹（第 3 行、第 256 列）")
    asked = client.get(f"{coloured['url']}measurement", choice(threshold=2))
    assert asked.json()["message"].startswith("阈值:")
    assert "阈值来源：配置文件。" in client.get("/").content.decode()


def bytes_of_database(settings) -> bytes:
    """The database with the files beside it, which keep rows until SQLite empties them."""
    return content(settings.FOLDER.glob("database.sqlite3*"))


@pytest.mark.parametrize("how", ["one", "all", "expired"])
def test_nothing_of_a_deleted_result_stays_in_the_database(client, settings, result, how):
    from web.analysis_queue import delete_expired
    from web.models import Result

    # Without it the test passes only with a SQLite that overwrites by default.
    assert "secure_delete=ON" in settings.DATABASES["default"]["OPTIONS"]["init_command"]
    name = "3-1 眼".encode()
    assert name in bytes_of_database(settings)
    if how == "expired":
        old = Result.objects.get().uploaded - timedelta(seconds=settings.KEPT_SECONDS + 1)
        Result.objects.update(uploaded=old)
        delete_expired()
    else:
        client.delete(result["url"] if how == "one" else "/results/")
    assert name not in bytes_of_database(settings)
    assert result["key"].encode() not in bytes_of_database(settings)


def test_start_and_stop_delete_all_images_unless_another_process_serves(web, client, settings, result):
    from web.analysis_queue import delete_all_if_unused, stop_analysis
    from web.shared_lock import SharedLock

    def listed() -> list[dict]:
        """The results, with the time left that `result` has."""
        results = client.get("/results/").json()["results"]
        assert all(0 < other["secondsLeft"] <= result["secondsLeft"] for other in results)
        return [other | {"secondsLeft": result["secondsLeft"]} for other in results]

    (settings.UPLOAD_FOLDER / "left").write_bytes(b"an image")
    other = SharedLock(settings.FOLDER / "serving")
    other.acquire()
    delete_all_if_unused()
    stop_analysis()
    assert listed() == [result]
    other.release()
    web.serving.acquire()
    delete_all_if_unused()  # it serves itself
    assert listed() == [result]
    stop_analysis()
    assert files_kept(settings) == []
    assert client.get("/results/").json() == {"results": []}
    assert "3-1 眼".encode() not in bytes_of_database(settings)


def test_processes_of_one_folder_have_one_network(web, settings):
    from dataclasses import replace

    from web.shared_lock import SharedLock
    from web.start import check_one_network

    own = network()
    other = SharedLock(settings.FOLDER / "serving")
    others = [replace(own, weights_sha256="1" * 64), replace(own, threshold=0.4), replace(own, min_area_px=3)]
    spacing = replace(own.testing_settings, pixel_spacing_mm=0.01)
    others += [replace(own, testing_settings=spacing), replace(own, info_banner=None)]
    check_one_network(own, web.serving)
    other.acquire()
    check_one_network(own, web.serving)
    for another in others:
        with pytest.raises(UserError, match="another network, or the same with other settings, serves"):
            check_one_network(another, web.serving)
    other.release()
    for another in others:  # nobody serves the folder now
        check_one_network(another, web.serving)


def test_label_and_columns_follow_what_the_network_outlines(web, client, angiogram):
    from dataclasses import replace

    web.network = replace(network(), structure="vessels", label="vessels")
    page = client.get("/").content.decode()
    assert "area fraction" in page and "vessels" in page and "schaemic" not in page
    send(client, png(angiogram.image))
    analyse_all(web)
    (result,) = client.get("/results/").json()["results"]
    table = client.get(f"{result['url']}download/measurements", choice()).content.decode("utf-8-sig")
    assert "area_fraction_superior" in table and "ischaemic_index" not in table
    document = client.get(f"{result['url']}download/labelme", choice()).json()
    assert {shape["label"] for shape in document["shapes"]} == {"vessels"}
    web.network = network()
    assert "ischaemic index" in client.get("/").content.decode()


def test_the_page_says_how_an_image_differs_from_those_of_the_training(web, client, angiogram):
    from dataclasses import replace

    from lib.networks.trained_network import TrainingImages

    coloured = angiogram.image[..., None] * np.array([1, 0.6, 0.3])
    for image in (angiogram.image, coloured.astype(np.uint8)):
        send(client, png(image))
    analyse_all(web)
    web.network = replace(network(), training_images=TrainingImages(500, 520, colour=False))
    send(client, png(angiogram.image))
    analyse_all(web)
    same, in_colour, small = (r["doubts"] for r in client.get("/results/").json()["results"])
    assert same == "the image is blurred"  # 256 pixels
    assert "in colour" in in_colour
    assert "pixels, in the training 500 to 520" in small
