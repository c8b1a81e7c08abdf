import cv2
import numpy as np
import pytest

from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.field_of_view import detect_field_of_view
from lib.images.reading import read_image
from lib.prediction.certainty.image_quality import image_quality

SIZES = (512, 640, 768)


@pytest.fixture(scope="module")
def angiograms():
    return [synthetic_angiogram(3, number, size) for number, size in enumerate(SIZES)]


def blurred(image):
    """A blur of 3 pixels in an image of 512."""
    return cv2.GaussianBlur(image, (0, 0), 3 * len(image) / 512)


def half_black(image):
    return np.where(np.arange(len(image))[:, None] < 0.45 * len(image), image // 10, image)


@pytest.mark.parametrize(
    ("degraded", "faults"),
    [
        (lambda image: image, []),
        (lambda image: np.stack([image] * 3, axis=-1), []),
        (lambda image: cv2.LUT(image, (255 * (np.arange(256) / 255) ** 0.8).astype(np.uint8)), []),
        (blurred, ["blurred"]),
        (lambda image: image // 4, ["dark", "small gradable part"]),
        (lambda image: np.minimum(image * 4.0, 255).astype(np.uint8), ["overexposed"]),
        (half_black, ["small gradable part"]),
    ],
    ids=["as it is", "RGB", "brighter", "blurred", "dark", "overexposed", "half black"],
)
def test_each_fault_of_an_image_is_named(angiograms, degraded, faults):
    for angiogram in angiograms:
        found = image_quality(degraded(angiogram.image), angiogram.field_of_view).faults
        assert set(faults) <= set(found) and (faults or not found)


def test_a_blur_with_noise_is_a_blur(angiograms):
    noise = np.random.default_rng(0)
    for angiogram in angiograms:
        image = blurred(angiogram.image) + noise.normal(0, 3, angiogram.image.shape)
        image = np.clip(image, 0, 255).astype(np.uint8)
        assert image_quality(image, angiogram.field_of_view).faults == ["blurred"]


def test_pixels_outside_the_field_of_view_do_not_count(angiograms):
    image, field_of_view = angiograms[0].image, angiograms[0].field_of_view
    bright = np.where(field_of_view > 0, image, 255)
    assert image_quality(bright, field_of_view).faults == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_a_tiny_or_narrow_field_of_view_has_finite_measures(shape):
    whole = np.zeros((320, 320), np.uint8)
    whole[: shape[0], : shape[1]] = 1
    quality = image_quality(whole * 100, whole)
    assert np.isfinite([quality.median_level, quality.sharpness, quality.gradable_share]).all()


def test_the_real_angiograms_have_no_fault(shared_data):
    files = [*shared_data.glob("FFA/*.jpg"), *shared_data.glob("FFA_image_level/*/*.jpg")]
    assert len(files) == 46
    for file in files:
        image = read_image(file)
        field_of_view = detect_field_of_view(image)
        assert image_quality(image, field_of_view).faults == [], file.name
        assert "blurred" in image_quality(blurred(image), field_of_view).faults
