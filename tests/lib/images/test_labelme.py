import base64
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from lib.images.labelme import MAX_POINTS, Annotation, Shape, rasterise, read_labelme
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

FFA = PROJECT.parent / "shared" / "data" / "FFA"
TRIANGLE = [[2.0, 2.0], [20.5, 4.2], [9.1, 25.0]]


def item(points=TRIANGLE, label="NP", kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def write(path, *shapes, encoding="utf-8", **changes):
    content = {
        "version": "4.5.7",
        "shapes": list(shapes),
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": 32,
        "imageWidth": 48,
        **changes,
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    return path


def mask_of(path, labels=("NP",), ignore_labels=("BRVO",), height=32, width=48):
    return rasterise(read_labelme(path), labels, ignore_labels, height, width)


def pillow_polygon(points, height=32, width=48):
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in points], outline=1, fill=1)
    return np.asarray(canvas)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a b.json"


def test_union_of_wanted_polygons(path):
    second = [[15, 10], [40, 10], [40, 30], [15, 30]]
    write(path, item(), item(second, "CNP"), item([[0, 0], [47, 0], [47, 31]], "BRVO"))
    mask = mask_of(path, ("NP", "CNP"))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, pillow_polygon(TRIANGLE) | pillow_polygon(second))
    assert mask[10, 15] == mask[30, 40] == 1, "the edge belongs to the area"


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(-40, 80), st.floats(-30, 60)), min_size=3, max_size=9))
def test_any_polygon_equals_pillows(points):
    points = np.array(points)
    if np.linalg.matrix_rank(points - points[0], tol=1e-3) < 2:
        return
    annotation = Annotation(Path("a"), "a.jpg", 32, 48, (Shape(1, "NP", "polygon", points),))
    np.testing.assert_array_equal(rasterise(annotation, ["NP"], [], 32, 48), pillow_polygon(points))


def test_figure_of_eight_is_filled(path):
    eight = [[2, 2], [42, 28], [42, 2], [2, 28]]  # signed area 0
    np.testing.assert_array_equal(mask_of(write(path, item(eight))), pillow_polygon(eight))


@pytest.mark.parametrize("corners", [[[5, 3], [20, 9]], [[20, 9], [5, 3]], [[5, 9], [20, 3]]])
def test_rectangle(path, corners):
    expected = np.zeros((32, 48))
    expected[3:10, 5:21] = 1
    np.testing.assert_array_equal(mask_of(write(path, item(corners, kind="rectangle"))), expected)


def test_rectangle_of_four_points(path):
    expected = np.zeros((32, 48))
    expected[3:10, 5:21] = 1
    corners = [[5, 3], [20, 3], [20, 9], [5, 9]]
    np.testing.assert_array_equal(mask_of(write(path, item(corners, kind="rectangle"))), expected)


def test_circle(path):
    mask = mask_of(write(path, item([[24, 16], [24, 26]], kind="circle")))
    rows, columns = np.indices(mask.shape)
    distance = np.hypot(rows - 16, columns - 24)
    assert mask[distance < 9.5].all()
    assert not mask[distance > 10.5].any()


@pytest.mark.parametrize("corner", [(5, 3), (-2, 3), (45, 30)])
def test_embedded_mask(path, corner):
    stamp = np.random.default_rng(0).integers(0, 2, (4, 6)).astype(bool)
    x, y = corner
    points = [[x, y], [x + 5, y + 3]]
    write(path, item(points, kind="mask", mask=png(stamp)))
    padded = np.zeros((32 + 20, 48 + 20))
    padded[10 + y : 14 + y, 10 + x : 16 + x] = stamp
    np.testing.assert_array_equal(mask_of(path), padded[10:-10, 10:-10])


def test_overlapping_embedded_masks_are_united(path):
    points = [[5, 3], [10, 6]]
    full, empty = np.ones((4, 6), bool), np.eye(4, 6, dtype=bool)
    shapes = [item(points, kind="mask", mask=png(stamp)) for stamp in (full, empty)]
    assert mask_of(write(path, *shapes)).sum() == 24


@pytest.mark.parametrize(
    "image_path",
    [
        "血管造影 1.jpg",
        r"..\brvo后极部图汇总\血管造影 1.jpg",
        r"C:\Users\x\血管造影 1.jpg",
        "/home/x/血管造影 1.jpg",
        "../../血管造影 1.jpg",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_folders_of_the_image_are_ignored(path, image_path, encoding):
    write(path, item(), imagePath=image_path, encoding=encoding)
    annotation = read_labelme(path)
    assert annotation.image_path_name == "血管造影 1.jpg"
    assert (annotation.height, annotation.width) == (32, 48)


def test_no_shape_no_size_and_default_kind(path):
    write(path, imageHeight=None, imageWidth=None)
    assert not mask_of(path, height=5, width=7).any()
    shape = item()
    del shape["shape_type"]
    np.testing.assert_array_equal(mask_of(write(path, shape)), pillow_polygon(TRIANGLE))


def test_invalid_image_data_is_ignored(path):
    write(path, item(), imageData="no base64 !")
    assert mask_of(path).any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"line 1: not valid JSON"),
        (b'{\n"shapes": [,]}', r"line 2: not valid JSON"),
        (b'{"shapes": "a\0b"}', r"not valid JSON"),
        (b"[1, 2]", r"not a LabelMe file"),
        (b"[" * 200_000, r"nested too deeply"),
        (b'{"shapes": ' + b"9" * 5000 + b"}", r"cannot be read"),
        (b"\xff\xff\xff", r"neither UTF-8 nor GB 18030"),
    ],
)
def test_damaged_files(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as raised:
        read_labelme(path)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"imagePath": None}, "imagePath: expected"),
        ({"imagePath": r"..\.."}, "imagePath: expected"),
        ({"imagePath": "a\0.jpg"}, "imagePath: expected"),
        ({"imageHeight": "512"}, "imageHeight, imageWidth: found"),
        ({"shapes": {}}, "shapes: expected a list"),
        ({"shapes": [5]}, "shape 1: expected an object"),
        ({"shapes": [{"points": TRIANGLE}]}, "shape 1: label and shape_type must be text"),
        ({"shapes": [item(None)]}, r"shape 1 \(NP\): points must be"),
        ({"shapes": [item([1, 2, 3])]}, "points must be"),
        ({"shapes": [item([[1, 2], [3]])]}, "points must be"),
        ({"shapes": [item([["a", "b"]])]}, "points must be"),
        ({"shapes": [item([[10**400, 1]])]}, "points must be"),
        ({"shapes": [item([[1, float("nan")]])]}, "a point is NaN or infinite"),
        ({"shapes": [item([[1, float("inf")]])]}, "a point is NaN or infinite"),
        ({"shapes": [item([[1, 1], [2, 2]], kind="mask")]}, "has no mask"),
        ({"shapes": [item([[1, 1], [2, 2]], kind="mask", mask="?")]}, "not base64"),
        ({"shapes": [item([[1, 1], [2, 2]], kind="mask", mask="AAAA")]}, "is not an image"),
    ],
)
def test_faults_of_the_content(path, changes, reason):
    with pytest.raises(UserError, match=reason) as raised:
        read_labelme(write(path, **changes))
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (item([[1, 1], [9, 9]]), r"shape 1 \(NP, polygon\): has 2 points, expected at least 3"),
        (item([[1, 1], [9, 9], [5, 5]]), "on one line"),
        (item([[1, 1]] * 4), "on one line"),
        (item([[1, 1], [1, 9]], kind="rectangle"), "on one line"),
        (item([[1, 1]] * 3, kind="rectangle"), "has 3 points, expected 2 or 4"),
        (item([[5, 5], [5, 5]], kind="circle"), "on one line"),
        (item([[5, 5]], kind="circle"), "has 1 points, expected 2"),
        (item([[1, 1], [9, 9]], kind="linestrip"), "encloses no area"),
        (item([[1, 1]], kind="point"), "encloses no area"),
        (item([[1, 1], [20, 1], [5, 500]]), r"point \(5, 500\) is far outside .* 48x32"),
        (item([[-49, 1], [20, 1], [5, 5]]), "far outside"),
        (item([[0, 0], [9, 9]], kind="mask", mask=png(np.eye(3, dtype=bool))), "corners say 10x10"),
        (item([[i % 9, i % 7] for i in range(MAX_POINTS + 1)]), "at most 100000"),
    ],
)
def test_shapes_with_a_wanted_label_that_cannot_be_drawn(path, shape, reason):
    write(path, shape)
    with pytest.raises(UserError, match=reason):
        mask_of(path)
    assert not mask_of(path, ("CNP",), ("NP",)).any(), "an ignored shape may be anything"


def test_all_faults_at_once(path):
    write(path, item(label="NP "), item(label="MA"), item(label="MA"), item([[1, 1], [2, 2]]))
    with pytest.raises(UserError) as raised:
        mask_of(path, height=30)
    message = str(raised.value)
    assert "'MA' (2), 'NP ' (1); add each to [preparation] labels or ignore_labels" in message
    assert "drawn on 48x32 pixels, the image has 48x30" in message
    assert "shape 4 (NP, polygon): has 2 points" in message


def test_a_million_points_are_refused_fast():
    points = np.random.default_rng(0).random((10**6, 2)) * 30
    annotation = Annotation(Path("a"), "a.jpg", 32, 48, (Shape(1, "NP", "polygon", points),))
    start = time.process_time()
    with pytest.raises(UserError, match="has 1000000 points"):
        rasterise(annotation, ["NP"], [], 32, 48)
    assert time.process_time() - start < 2


SQUARE = [[10, 5], [40, 5], [40, 28], [10, 28]]
INNER = [[18, 10], [30, 10], [30, 20], [18, 20]]
RING = 31 * 24 - 13 * 11


@pytest.mark.parametrize("ignore_labels", [("BRVO",), ("BRVO", "_background_")])
def test_a_background_shape_erases_what_was_drawn_before_it(path, ignore_labels):
    spot = [[20, 12], [24, 12], [24, 15], [20, 15]]
    write(path, item(SQUARE), item(INNER, "_background_"), item(spot))
    mask = mask_of(path, ignore_labels=ignore_labels)
    expected = pillow_polygon(SQUARE) * (1 - pillow_polygon(INNER)) | pillow_polygon(spot)
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() == RING + 5 * 4


@pytest.mark.parametrize("kind", ["rectangle", "circle", "mask"])
def test_a_background_shape_may_be_of_each_kind(path, kind):
    more = {"mask": png(np.ones((4, 6), bool))} if kind == "mask" else {}
    inner = [[18, 10], [23, 13]]
    write(path, item(SQUARE), item(inner, "_background_", kind, **more))
    cut = mask_of(write(path.with_name("b.json"), item(inner, "NP", kind, **more)))
    np.testing.assert_array_equal(mask_of(path), pillow_polygon(SQUARE) & (1 - cut))


def test_a_background_shape_that_cannot_be_drawn_is_a_fault(path):
    write(path, item(SQUARE), item([[1, 1], [9, 9]], "_background_"))
    with pytest.raises(UserError, match=r"shape 2 \(_background_, polygon\): has 2 points"):
        mask_of(path)


def test_a_hole_of_x_anylabeling_is_cut_out_of_its_group_only(path):
    hole = item(INNER, group_id=1, difficult=True)
    write(path, hole, item(SQUARE, group_id=1, difficult=False))
    assert mask_of(path).sum() == RING
    inside = [[22, 13], [26, 13], [26, 17], [22, 17]]
    write(path, item(inside, group_id=2), item(SQUARE, group_id=1), hole)
    assert mask_of(path).sum() == RING + 25


@pytest.mark.parametrize(
    "shapes",
    [
        [item(SQUARE), item(INNER, difficult=True)],
        [item(SQUARE, group_id=1, difficult=True), item(INNER, group_id=1, difficult=True)],
        [item(SQUARE, group_id=1), item(INNER, group_id=2, difficult=True)],
        [item(SQUARE, group_id=1), item(INNER, group_id=1)],
        [item(SQUARE, group_id=1), item(SQUARE, "BRVO", group_id=1), item(INNER, group_id=None)],
    ],
)
def test_a_difficult_shape_that_is_no_hole_is_drawn(path, shapes):
    np.testing.assert_array_equal(mask_of(write(path, *shapes)), pillow_polygon(SQUARE))


def test_a_hole_outside_its_group_is_refused_by_name(path):
    away = [[1, 1], [5, 1], [5, 3]]
    write(path, item(SQUARE, group_id=1), item(away, group_id=1, difficult=True))
    with pytest.raises(UserError, match=r"shape 2 \(NP, polygon\): is marked as difficult in group 1"):
        mask_of(path)


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rotation", "quadrilateral", None])
def test_four_corners_are_a_polygon(path, kind):
    corners = [[20, 3], [40, 12], [34, 26], [14, 17]]
    write(path, item(corners, kind=kind), version="6.3.1")
    np.testing.assert_array_equal(mask_of(path), pillow_polygon(corners))


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rotation"])
def test_a_rotated_rectangle_needs_four_corners(path, kind):
    with pytest.raises(UserError, match="has 3 points, expected 4 points"):
        mask_of(write(path, item(kind=kind)))


@pytest.mark.parametrize("declared", [None, (64, 96)])
def test_shapes_that_were_drawn_on_an_embedded_picture_of_another_size_are_refused(path, declared):
    height, width = declared or (None, None)
    picture = png(np.zeros((32, 48), np.uint8))
    write(path, item(), imageHeight=height, imageWidth=width, imageData=picture, version="3.4.1")
    with pytest.raises(UserError, match=r"embedded picture \(imageData\) of 48x32 pixels.*has 96x64"):
        mask_of(path, height=64, width=96)


def test_an_embedded_picture_gives_the_size_that_old_files_lack(path):
    picture = png(np.zeros((32, 48), np.uint8))
    write(path, item(), imageHeight=None, imageWidth=None, imageData=picture)
    assert read_labelme(path).embedded_size == (32, 48)
    np.testing.assert_array_equal(mask_of(path), pillow_polygon(TRIANGLE))


@pytest.mark.parametrize(
    ("content", "program"),
    [
        ({"images": [], "annotations": [], "categories": []}, "COCO"),
        ({"info": {}, "categories": {}, "items": []}, "CVAT"),
        ([{"version": 0, "tags": [], "shapes": [], "tracks": []}], "CVAT"),
        ({"_via_settings": {}, "_via_img_metadata": {}, "_via_attributes": {}}, "VIA"),
        ({"a.png1234": {"filename": "a.png", "size": 1234, "regions": [], "file_attributes": {}}}, "VIA"),
        ({"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}, "VIA"),
        ([{"id": 1, "data": {"image": "a.png"}, "annotations": [], "predictions": []}], "Label Studio"),
    ],
)
def test_files_of_other_programs_are_named(path, content, program):
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"a file of {program}.*not of LabelMe; export masks") as raised:
        read_labelme(path)
    assert "\n" not in str(raised.value)


def test_real_files_against_pillow():
    files = sorted(FFA.glob("*.json"))
    if not files:
        pytest.skip("no ../shared/data/FFA")
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        expected = np.zeros((512, 512), np.uint8)
        for shape in content["shapes"]:
            if shape["label"] == "NP":
                expected |= pillow_polygon(shape["points"], 512, 512)
        np.testing.assert_array_equal(mask_of(file, height=512, width=512), expected)
        assert read_labelme(file).image_path_name == f"{file.stem}.jpg"
