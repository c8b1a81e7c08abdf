import cv2
import numpy as np
import pytest
from PIL import ImageDraw

from lib.figures.prediction_overlay import draw_prediction

YELLOW, INK = np.array((240, 228, 66)), (34, 34, 34)


def drawn(original, **changes):
    """The overlay of a square of a quarter of the width and height; the field of view is the image."""
    mask = np.zeros(original.shape[:2], bool)
    height, width = mask.shape
    mask[height // 2 : height * 3 // 4, width // 2 : width * 3 // 4] = True
    settings = {"threshold": 0.4537, "share_column": "ischaemic_index"} | changes
    return mask, draw_prediction(original, mask, np.ones(mask.shape, np.uint8), **settings)


def ink(pixels):
    return (pixels == INK).all(axis=2)


@pytest.mark.parametrize("shape", [(128, 128), (128, 128, 3), (100, 128)])
def test_small_images_are_enlarged_and_areas_are_filled_with_transparent_colour(shape):
    _, picture = drawn(np.full(shape, 100, np.uint8))
    assert picture.shape[1] == 1024 and picture.shape[0] > 8 * shape[0] + 50
    image = picture[: 8 * shape[0]]
    middle = image[5 * shape[0], 5 * 128]
    np.testing.assert_allclose(middle, 0.75 * 100 + 0.25 * YELLOW, atol=1)
    assert np.abs(image[5 * shape[0], 4 * 128] - YELLOW).max() < 25  # the outline
    assert (image[10 : 3 * shape[0], 10:-10] == 100).all()


def test_large_images_keep_their_size_and_no_text_covers_them():
    original = np.random.default_rng(0).integers(0, 256, (1100, 1500), np.uint8)
    mask, picture = drawn(original, pixel_spacing_mm=(0.01, 0.01))
    assert picture.shape[1] == 1500
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
    near[:5], near[-5:], near[:, :5], near[:, -5:] = (True,) * 4  # the outline of the field of view
    assert (picture[:1100][~near] == original[~near][:, None]).all()
    strip = picture[1100:]
    assert ink(strip[:, :700]).any() and ink(strip[:, 800:]).any()


def test_narrow_images_are_in_the_middle_of_a_picture_wide_enough_for_the_text():
    _, picture = drawn(np.full((2000, 100), 50, np.uint8))
    assert picture.shape[1] == 1024
    assert (picture[1000, :460] == 255).all() and (picture[100, 470:550] == 50).all()


@pytest.mark.parametrize("side", [300, 1024, 3000])
def test_letters_grow_with_the_picture_and_name_threshold_and_index(side, monkeypatch):
    written = []
    text = ImageDraw.ImageDraw.text

    def spy(self, place, content, fill, font, anchor):
        written.append((content, font.size))
        text(self, place, content, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", spy)
    drawn(np.zeros((side, side), np.uint8))
    assert [content for content, _ in written] == [
        "predicted area",
        "field of view",
        "threshold 0.4537 · ischaemic index 6.2 %",
    ]
    assert {size for _, size in written} == {max(side, 1024) // 40}
    written.clear()
    empty = np.zeros((side, side), np.uint8)
    draw_prediction(empty, empty > 0, empty, threshold=0.5, share_column="area_fraction")
    assert written[-1][0] == "threshold 0.5 · area fraction n/a"


@pytest.mark.parametrize(
    ("side", "spacing", "label", "length"),
    [
        (1024, (0.01, 0.01), "2 mm", 200),
        (512, (0.01, 0.01), "1 mm", 200),  # enlarged by 2
        (2000, (0.004, 0.004), "1 mm", 250),
        (1024, (0.01, 0.03), "5 mm horizontally", 167),
        (1024, (0.0002, 0.0002), "0.02 mm", 100),
    ],
)
def test_scale_bar_has_the_length_it_names(side, spacing, label, length, monkeypatch):
    written = []
    text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda *a: (written.append(a[2]), text(*a)))
    _, picture = drawn(np.zeros((side, side), np.uint8), pixel_spacing_mm=spacing)
    right = ink(picture[-picture.shape[1] // 20 :, picture.shape[1] * 3 // 4 :])
    assert written[-1] == label
    assert abs(right.sum(axis=1).max() - length) <= 1 + side // 400
