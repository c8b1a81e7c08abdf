import functools

import cv2
import numpy as np
import pytest

from lib.configuration.banner import Banner, parse_info_banner
from lib.images.info_banner import banner_to_cut, find_banner
from lib.images.reading import read_image
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from tests.lib.images.test_reading import write_dicom

DATA = PROJECT.parent / "shared" / "data"
SIDES = ("top", "bottom", "left", "right")
TURNS = {"top": 0, "bottom": 0, "left": 1, "right": 1}


@functools.cache
def angiogram(height, width, radius=None, level=70, seed=0):
    """Texture and vessels, seen through a round aperture if a radius is given: uint8 (H, W)."""
    random = np.random.default_rng(seed)
    image = level + 12 * random.normal(size=(height, width))
    image += cv2.GaussianBlur(random.normal(0, 400, (height, width)), (0, 0), 20)
    for x, y in random.integers(0, min(height, width), (10, 2)).tolist():
        cv2.line(image, (x, 0), (y, height), 200, 3)
    if radius:
        rows, columns = np.ogrid[:height, :width]
        image[np.hypot(rows - height / 2, columns - width / 2) > radius] = 0
    return image.clip(0, 255).astype(np.uint8)


def strip(length, size, background, ink):
    banner = np.full((size, length), background, np.uint8)
    cv2.putText(banner, "Mustermann, Erika  *01.02.1960", (9, size // 3 + 3), 0, 0.6, ink, 2)
    cv2.putText(banner, "FA 0:31.20 55 ART [HR] OD", (9, 3 * size // 4 + 2), 0, 0.5, ink, 1)
    return banner


def with_banner(side, frame, banner):
    frame = np.rot90(frame, -TURNS[side])
    both = [banner, frame] if side in {"top", "left"} else [frame, banner]
    return np.ascontiguousarray(np.rot90(np.vstack(both), TURNS[side]))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("background", "ink"), [(0, 255), (255, 0), (128, 255), (40, 230)])
@pytest.mark.parametrize("radius", [None, 250])
@pytest.mark.parametrize("quality", [None, 75])
def test_square_frame(side, background, ink, radius, quality):
    frame = angiogram(480, 480, radius)
    image = with_banner(side, frame, strip(480, 64, background, ink))
    if quality:
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    banner = find_banner(image)
    assert banner == Banner(side, 64)
    if not quality:
        np.testing.assert_array_equal(banner.cut(image), frame)


@pytest.mark.parametrize("highest", [4095, 65535])
def test_white_text_of_a_banner_does_not_compress_the_levels_of_the_retina(tmp_path, highest):
    frame = angiogram(480, 480, 235).astype(np.uint16) * 4
    whole = np.vstack([frame, strip(480, 64, 0, 1) * np.uint16(highest)])
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    cv2.imwrite(str(tmp_path / "whole.png"), whole)
    found = read_image(tmp_path / "whole.png")
    banner = find_banner(found)
    assert banner == Banner("bottom", 64)
    np.testing.assert_array_equal(banner.cut(found), read_image(tmp_path / "frame.png", banner=None))
    np.testing.assert_array_equal(read_image(tmp_path / "whole.png", banner), found)


@pytest.mark.parametrize("colour", [False, True])
def test_heidelberg(colour):
    image = np.vstack([angiogram(768, 768, 390), strip(768, 100, 0, 255)])
    if colour:
        image = np.stack([image] * 3, axis=-1)
    assert find_banner(image) == Banner("bottom", 100)


def test_logo_up_to_the_margin():
    banner = strip(768, 100, 0, 255)
    banner[:, -100:] = 230
    cv2.putText(banner, "Eye", (690, 60), 0, 1, 0, 2)
    assert find_banner(np.vstack([angiogram(768, 768, 390), banner])) == Banner("bottom", 100)


@pytest.mark.parametrize("side", SIDES)
def test_frame_that_is_not_square(side):
    frame = angiogram(420, 560) if side in {"top", "bottom"} else angiogram(560, 420)
    banner = strip(560, 60, 255, 0)
    assert find_banner(with_banner(side, frame, banner)) == Banner(side, 60)


@pytest.mark.parametrize("shape", [(480, 480), (480, 640), (540, 480), (868, 768)])
@pytest.mark.parametrize("radius", [None, 200, 235, 300])
@pytest.mark.parametrize("level", [4, 20, 70])
def test_nothing_is_cut_without_a_banner(shape, radius, level):
    assert find_banner(angiogram(*shape, radius, level)) is None


@pytest.mark.parametrize("radius", [200, 250, 320, 360, 384])
def test_landscape_photograph_of_a_round_retina(radius):
    assert find_banner(angiogram(768, 1024, radius, 130)) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (30, 20), (5, 5, 3)])
@pytest.mark.parametrize("level", [0, 200])
def test_tiny_and_constant_images(shape, level):
    assert find_banner(np.full(shape, level, np.uint8)) is None


def test_an_empty_strip_is_no_banner():
    assert find_banner(np.vstack([angiogram(480, 480, 235), np.zeros((64, 480), np.uint8)])) is None


@pytest.mark.parametrize(
    "pattern", ["DRIVE/*/images/*", "STARE/stare-images/*", "CHASE_DB1/*.jpg", "FFA/*.jpg"]
)
def test_public_photographs_have_no_banner(pattern):
    files = sorted(DATA.glob(pattern))
    if not files:
        pytest.skip(f"no ../shared/data/{pattern}")
    assert [f.name for f in files if find_banner(read_image(f))] == []


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_cut(side, shape):
    image = np.arange(np.prod(shape)).reshape(shape)
    expected = {"top": image[2:], "bottom": image[:3], "left": image[:, 2:], "right": image[:, :5]}[side]
    cut = Banner(side, 2).cut(image)
    np.testing.assert_array_equal(cut, expected)
    assert not np.shares_memory(cut, image), "the cut image must not keep the banner in memory"
    assert str(Banner(side, 2)) == f"{side} strip of 2 pixels"


def test_cut_of_everything():
    with pytest.raises(UserError, match="bottom:5 leaves nothing of an image of 7x5 pixels"):
        Banner("bottom", 5).cut(np.zeros((5, 7)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", "auto"),
        (" None ", None),
        ("bottom:100", Banner("bottom", 100)),
        ("Left : 7", Banner("left", 7)),
        ("top:1", Banner("top", 1)),
        ("right:20", Banner("right", 20)),
    ],
)
def test_parse(text, expected):
    assert parse_info_banner(text) == expected


@pytest.mark.parametrize("text", ["", "yes", "bottom", "bottom:0", "bottom:-3", "top:1.5", "up:9"])
def test_parse_refuses(text):
    with pytest.raises(ValueError, match="auto, none, top:N, bottom:N"):
        parse_info_banner(text)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("level", [40, 230])
@pytest.mark.parametrize("radius", [None, 235])
def test_a_wiped_banner_is_cut(side, level, radius):
    image = with_banner(side, angiogram(480, 480, radius), np.full((64, 480), level, np.uint8))
    assert find_banner(through_jpeg(image)) == Banner(side, 64)


def through_jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_GRAYSCALE)


def test_a_grey_surround_is_no_wiped_banner():
    image = angiogram(480, 480, 235)
    image[image == 0] = 40
    image[:60] = 40  # a straight edge of the aperture
    assert find_banner(image) is None


def test_burned_in_text_is_refused_unless_the_user_decided(tmp_path):
    image, file = angiogram(200, 200), tmp_path / "a"
    write_dicom(file, image, BurnedInAnnotation="YES")
    with pytest.raises(UserError, match=r"BurnedInAnnotation = YES.* set \[preparation\] info_banner"):
        banner_to_cut(image, file, "auto")
    assert banner_to_cut(image, file, None) is None
    assert banner_to_cut(image, file, Banner("top", 9)) == Banner("top", 9)
    shown = with_banner("top", angiogram(480, 480, 235), strip(480, 64, 0, 255))
    assert banner_to_cut(shown, file, "auto") == Banner("top", 64)
    write_dicom(file, image, BurnedInAnnotation="NO")
    assert banner_to_cut(image, file, "auto") is None
