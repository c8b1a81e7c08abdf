import functools
import math

import cv2
import numpy as np
import pytest

from lib.images.field_of_view import detect_field_of_view
from lib.images.reading import read_image, read_mask
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

DATA = PROJECT.parent / "shared" / "data"


def dice(one, other):
    return 2 * float((one & other).sum()) / float(int(one.sum()) + int(other.sum()))


@functools.cache
def retina(height, width, level=80, seed=0):
    """Texture from fine to coarse with some bright vessels: uint8 (H, W)."""
    random = np.random.default_rng(seed)
    image = np.full((height, width), float(level))
    for sigma, strength in ((2, 0.1), (8, 0.15), (40, 0.2)):
        noise = cv2.GaussianBlur(random.normal(size=(height, width)), (0, 0), sigma)
        image *= 1 + strength * noise / noise.std()
    for x, slope in random.uniform(0, 1, (12, 2)):
        ends = (int(x * width), 0), (int(slope * width), height)
        cv2.line(image, *ends, 2.0 * level, max(1, width // 150))
    return image.clip(level / 4, 255).astype(np.uint8)


def disc(height, width, x, y, radius):
    rows, columns = np.ogrid[:height, :width]
    return (np.hypot(columns - x, rows - y) <= radius).astype(np.uint8)


def through_jpeg(image, quality=75):
    code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(code, cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("height", "width", "x", "y", "radius"),
    [
        (512, 512, 255.5, 255.5, 262),  # cut by all four sides
        (300, 300, 150, 149, 120),  # free on all sides
        (605, 700, 350, 300, 330),  # cut at the top and the bottom
        (400, 300, 110, 200, 190),  # cut left and right, not in the middle
        (600, 800, 420, 240, 330),
        (97, 61, 30, 48, 28),
    ],
)
@pytest.mark.parametrize("colour", [False, True])
def test_round_aperture(height, width, x, y, radius, colour):
    truth = disc(height, width, x, y, radius)
    image = through_jpeg(retina(height, width) * truth)
    if colour:  # bright only in red: the maximum over the channels must find it
        image = np.stack([image, image // 3, image // 5], axis=-1)
    found = detect_field_of_view(image)
    assert found.dtype == np.uint8
    assert found.shape == (height, width)
    assert dice(found, truth) > (0.995 if radius > 100 else 0.98)


def test_area_of_a_free_circle():
    found = detect_field_of_view(retina(400, 400) * disc(400, 400, 200, 199, 170))
    assert found.sum() == pytest.approx(math.pi * 170**2, rel=0.005)


@pytest.mark.parametrize("level", [12, 25])
def test_dark_angiogram_with_non_perfusion_at_the_border(level):
    truth = disc(512, 512, 256, 256, 262)
    image = retina(512, 512, level).astype(float)
    for x, y, radius in ((40, 300, 90), (330, 30, 70), (420, 440, 60)):
        image[disc(512, 512, x, y, radius) > 0] *= 0.15
    image = (image * truth + np.random.default_rng(1).normal(0, 0.6, image.shape)).clip(0, 255)
    assert dice(detect_field_of_view(image.astype(np.uint8)), truth) > 0.995


def test_noisy_surround_with_text():
    truth = disc(512, 512, 256, 256, 240)
    image = np.where(truth, retina(512, 512, 110), 14).astype(float)
    image = (image + np.random.default_rng(2).normal(0, 4, image.shape)).clip(0, 255)
    image = cv2.putText(image.astype(np.uint8), "OD 0:31", (5, 20), 0, 0.6, 255, 1)
    assert dice(detect_field_of_view(image), truth) > 0.99


@pytest.mark.parametrize("side", range(4))
def test_straight_edge_within_the_frame(side):
    truth = disc(500, 500, 250, 250, 230)
    truth[:60] = 0
    truth, image = (np.rot90(a, side).copy() for a in (truth, retina(500, 500) * truth))
    assert dice(detect_field_of_view(image), truth) > 0.995


@pytest.mark.parametrize("shading", ["none", "vignette", "dark corner", "dark sides"])
def test_full_square_frame(shading):
    image = retina(400, 400).astype(float)
    rows, columns = np.indices(image.shape) / 200 - 1
    if shading == "vignette":
        image *= 1 - 0.4 * (rows**2 + columns**2)
    elif shading == "dark corner":
        image[disc(400, 400, 0, 0, 130) > 0] *= 0.3
    elif shading == "dark sides":
        image *= 1 - 0.7 * columns**2
    found = detect_field_of_view(through_jpeg(image.clip(0, 255).astype(np.uint8)))
    assert found.all()


def test_frame_between_black_bars():
    truth = np.zeros((400, 500), np.uint8)
    truth[10:390, 60:440] = 1
    assert dice(detect_field_of_view(retina(400, 500) * truth), truth) > 0.98


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (90, 1)])
@pytest.mark.parametrize("shape", [(1, 1), (50, 40), (40, 50, 3)])
def test_constant_image(level, expected, shape):
    found = detect_field_of_view(np.full(shape, level, np.uint8))
    np.testing.assert_array_equal(found, np.full(shape[:2], expected))


@pytest.mark.parametrize(
    "shape", [(1, 2), (1, 3), (1, 7), (2, 5), (3, 3), (3, 7), (9, 13), (9, 2000), (16, 16384)]
)
@pytest.mark.parametrize("turn", [0, 1])
def test_tiny_images_and_pure_noise(shape, turn):
    shape = shape[:: -1 if turn else 1]
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = detect_field_of_view(noise)
    assert found.shape == shape
    assert set(np.unique(found)) <= {0, 1}


@pytest.mark.parametrize("shape", [(1, 1024), (1200, 1), (2, 2100), (4, 9000)])
def test_an_image_of_a_few_rows_or_columns_gives_a_field_of_view(shape):
    assert detect_field_of_view(np.resize(np.arange(90, 250, dtype=np.uint8), shape)).all()


@pytest.mark.parametrize("side", [256, 768, 1536])
@pytest.mark.parametrize("mark", ["text", "square", "light"])
def test_a_mark_in_a_dark_image_is_no_field_of_view(side, mark):
    image = np.zeros((side, side + 64), np.uint8)
    if mark == "text":
        cv2.putText(image, "0:12", (20, side - 20), 0, 1, 255, 2)
    elif mark == "square":
        image[100:108, 100:108] = 200
    else:
        cv2.circle(image, (side // 2, side // 2), 12, 180, -1)
    frame = rf"its field of view is only \d+x\d+ pixels of {side + 64}x{side} "
    with pytest.raises(UserError, match=rf"eye\.png: {frame}"):
        detect_field_of_view(image, "eye.png")


def test_a_small_field_of_view_without_a_round_aperture_is_found():
    truth = np.zeros((600, 1000), np.uint8)
    truth[200:400, 300:500] = 1
    assert dice(detect_field_of_view(retina(600, 1000) * truth), truth) > 0.98


@pytest.mark.parametrize("part", [np.s_[80:432, 80:432], np.s_[:400, :400], np.s_[:300], np.s_[:, :330]])
def test_part_of_a_real_angiogram(part):
    files = sorted((DATA / "FFA").glob("*.jpg"))
    if not files:
        pytest.skip("no ../shared/data/FFA")
    whole = detect_field_of_view(read_image(files[0]))
    for file in files[::5]:
        found = detect_field_of_view(read_image(file)[part])
        assert dice(found, whole[part]) > 0.995


def given_masks():
    for f in sorted((DATA / "DRIVE").glob("*/images/*.tif")):
        yield "DRIVE", f, f.parents[1] / "mask" / f"{f.stem}_mask.gif"
    for f in sorted((DATA / "STARE" / "stare-images").glob("*.ppm")):
        yield "STARE", f, DATA / "STARE" / "masks" / f"{f.stem}.gif"
    for f in sorted((DATA / "CHASE_DB1").glob("*.jpg")):
        yield "CHASE_DB1", f, DATA / "CHASE_DB1" / "masks" / f"{f.stem}.gif"


@pytest.mark.parametrize("name", ["DRIVE", "STARE", "CHASE_DB1"])
def test_against_given_masks(name):
    pairs = [(image, mask) for of, image, mask in given_masks() if of == name][::7]
    if not pairs:
        pytest.skip(f"no ../shared/data/{name}")
    for image, mask in pairs:
        found = detect_field_of_view(read_image(image))
        assert dice(found, read_mask(mask)) > {"DRIVE": 0.99}.get(name, 0.98), image.name


def test_angiograms_of_one_camera_have_equal_fields_of_view():
    files = sorted((DATA / "FFA").glob("*.jpg"))
    if not files:
        pytest.skip("no ../shared/data/FFA")
    found = [detect_field_of_view(read_image(f)) for f in files[::3]]
    for mask in found:
        assert dice(mask, found[0]) > 0.998
        assert mask.mean() == pytest.approx(0.817, abs=0.002)


@pytest.mark.parametrize(
    ("height", "width", "a", "b", "degrees"),
    [
        (512, 650, 305, 205, 0),  # free, as in ultra-wide-field images
        (500, 500, 235, 200, 0),
        (400, 600, 330, 180, 0),  # cut left and right
        (600, 420, 190, 260, 12),  # turned
        (450, 700, 310, 240, 0),  # cut at the top and the bottom
    ],
)
def test_elliptic_aperture(height, width, a, b, degrees):
    centre = (width / 2, height / 2)
    rows, columns = np.indices((height, width))
    angle = math.radians(degrees)
    u = (columns - centre[0]) * math.cos(angle) + (rows - centre[1]) * math.sin(angle)
    v = (rows - centre[1]) * math.cos(angle) - (columns - centre[0]) * math.sin(angle)
    truth = ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.uint8)
    found = detect_field_of_view(through_jpeg(retina(height, width) * truth))
    assert (found & truth).sum() / (found | truth).sum() > 0.98


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(("gap", "radius"), [(0, 190), (60, 160), (0, 215)])
def test_two_fields_beside_each_other_are_said(turn, gap, radius):
    one, other = (retina(400, 400, level) * disc(400, 400, 200, 200, radius) for level in (80, 120))
    image = np.rot90(np.hstack([one, np.zeros((400, gap), np.uint8), other]), turn)
    with pytest.raises(UserError, match=r"eye\.png: shows two fields of view"):
        detect_field_of_view(np.ascontiguousarray(image), "eye.png")


def noisy(rows, columns, level):
    """Retina without aperture, with the noise of an angiogram."""
    noise = np.random.default_rng(level).normal(0, 6, (rows, columns))
    return np.clip(retina(rows, columns, level) + noise, 1, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize(("gap", "level"), [(8, 0), (40, 0), (8, 255)])
def test_two_square_fields_with_a_strip_between_them_are_said(turn, gap, level):
    strip = np.full((400, gap), level, np.uint8)
    image = np.rot90(np.hstack([noisy(400, 400, 80), strip, noisy(400, 400, 120)]), turn)
    with pytest.raises(UserError, match="shows two fields of view"):
        detect_field_of_view(np.ascontiguousarray(image))


def test_a_straight_vessel_or_a_panel_is_no_second_field():
    wide = noisy(400, 800, 80)
    wide[:250, 396:404] = 220  # a vessel, straight through more than half of the rows
    assert detect_field_of_view(wide).any()
    for level in (0, 255):
        panel = np.hstack([noisy(400, 400, 80), np.full((400, 400), level, np.uint8)])
        assert detect_field_of_view(panel).any()


def test_one_wide_field_is_not_taken_for_two():
    truth = cv2.ellipse(np.zeros((300, 600), np.uint8), (300, 150), (290, 145), 0, 0, 360, 1, -1)
    assert dice(detect_field_of_view(retina(300, 600) * truth), truth) > 0.99
    assert detect_field_of_view(retina(300, 600)).all()
