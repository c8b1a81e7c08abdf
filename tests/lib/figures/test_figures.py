import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from lib.figures import charts, dataset_preview, roc_and_precision_recall
from lib.figures import style as figure_style
from lib.figures.charts import bar_chart, learning_curves
from lib.figures.dataset_preview import ContactSheetEntry, contact_sheet, preprocessing_figure
from lib.figures.mosaics import ImageGrid, labelled_rows, sample_patches
from lib.figures.overlay import OVERLAY_COLOURS, compare, overlay, paint
from lib.figures.roc_and_precision_recall import Curve, Point, precision_recall_figure, roc_figure
from lib.figures.style import legend_inside, new_figure, save_figure
from lib.runtime.errors import UserError

NETWORK_BLUE, DARKNESS_ORANGE, VALIDATION = (0, 114, 178), (230, 159, 0), (213, 94, 0)
TRUTH_YELLOW, FIELD_SKY = (240, 228, 66), (86, 180, 233)


def read(file):
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(pixels, colour, tolerance=4):
    """How many pixels have the colour."""
    difference = np.abs(pixels.astype(int) - colour).max(axis=-1)
    return np.count_nonzero(difference <= tolerance)


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def case():
    """Quarters of 20x20 pixels: TP upper left, FN upper right, FP lower left, TN lower right."""
    truth = np.zeros((40, 40), np.uint8)
    truth[:20] = 1
    probability = np.full((40, 40), 0.1, np.float32)
    probability[:, :20] = 0.9
    field_of_view = np.ones((40, 40), np.uint8)
    field_of_view[:, :4] = 0
    original = np.full((40, 40), 100, np.uint8)
    original[::2] = 110
    return {
        "name": "2-1 患者_a$x_1$b",
        "probability": probability,
        "truth": truth,
        "field_of_view": field_of_view,
        "original": original,
    }


def test_curves_are_drawn_in_their_colours_and_the_first_one_on_top(tmp_path):
    x = np.linspace(0, 1, 50)
    curves = [Curve("network", x, x**0.3, "#0072B2"), Curve("darkness", x, x**0.6, "#E69F00", 1.2)]
    point = Point("threshold 0.5", 0.2, 0.6)
    for name, legend in {"below": "", "right": "AUC-ROC"}.items():
        file = tmp_path / "new" / f"{name}.png"
        roc_figure(file, curves, [point], subtitle="FOV", legend_title=legend)
        pixels = read(file)
        assert min(pixels.shape[:2]) > 600
        assert count(pixels, NETWORK_BLUE) > count(pixels, DARKNESS_ORANGE) > 100
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["below.png", "right.png"]


def test_roc_goes_where_the_curve_goes(tmp_path):
    # A perfect prediction: up the left edge and along the top; no pixel of it below the diagonal.
    perfect = Curve("network", np.array([0, 0, 1]), np.array([0, 1, 1]), "#0072B2")
    roc_figure(tmp_path / "roc.png", [perfect], [], subtitle="")
    pixels = read(tmp_path / "roc.png")
    # The axes reach from .12 to .96 of the width and from .1 to .8 of the height.
    height, width = pixels.shape[:2]
    blue = np.abs(pixels.astype(int) - NETWORK_BLUE).max(axis=-1) <= 4
    left = blue[int(0.15 * height) : int(0.75 * height), int(0.11 * width) : int(0.16 * width)]
    assert left.sum(axis=0).max() > 0.55 * height
    assert blue[:, int(0.2 * width) : int(0.9 * width)].sum(axis=1).argmax() < 0.13 * height
    below = blue[int(0.3 * height) : int(0.7 * height), int(0.6 * width) : int(0.9 * width)]
    assert not below.any()


def test_without_curves_the_figure_says_why(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(roc_and_precision_recall, "write_in_middle", lambda axes, text: said.append(text))
    roc_figure(tmp_path / "roc.png", [], [], subtitle="")
    precision_recall_figure(tmp_path / "pr.png", [], [], prevalence=None, subtitle="")
    assert said == ["n/a: all FOV pixels are of one class"] * 2
    assert count(read(tmp_path / "roc.png"), NETWORK_BLUE) == 0


def test_learning_curves_mark_the_best_epoch(tmp_path, monkeypatch):
    history = [
        {"epoch": 1, "loss": 0.9, "auc": 0.5, "val_loss": 0.8, "val_auc": 0.6},
        {"epoch": 2, "loss": 0.5, "auc": 0.7, "val_loss": 0.6, "val_auc": 0.9},
        {"epoch": 3, "loss": 0.4, "auc": 0.8, "val_loss": 0.5, "val_auc": None},
        {"epoch": 4, "loss": float("nan"), "auc": 0.9, "val_loss": 0.7, "val_auc": 0.8},
    ]
    marked = []
    operating_point = charts.mark_operating_point

    def spy(axes, x, y, label):
        marked.append((x, y))
        operating_point(axes, x, y, label)

    monkeypatch.setattr(charts, "mark_operating_point", spy)
    file = tmp_path / "learning_curves.png"
    learning_curves(file, history)
    assert marked == [(2, 0.6), (2, 0.9)]
    marked.clear()
    learning_curves(file, history, best_by="loss")
    assert marked == [(3, 0.5)]
    pixels = read(file)
    thirds = np.array_split(pixels, 3, axis=1)
    assert [count(third, VALIDATION) > 50 for third in thirds] == [True, False, True]


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "loss": 0.5, "val_auc": None}]])
def test_learning_curves_of_hardly_anything(tmp_path, history):
    learning_curves(tmp_path / "curves.png", history)
    assert (count(read(tmp_path / "curves.png"), NETWORK_BLUE) > 0) == bool(history)


def draw_grid(file, images, columns):
    grid = ImageGrid([image.shape[:2] for image in images], columns)
    for image in images:
        grid.add(image)
    grid.save(file)


def test_image_grid_puts_each_image_in_the_middle_of_its_cell(tmp_path):
    grey = np.full((4, 6), 80, np.uint8)
    colour = np.full((2, 2, 3), (200, 10, 30), np.uint8)
    mask = np.ones((4, 4), np.uint8)
    images = [grey, colour, mask, np.full((4, 6, 1), 0.2, np.float32)]
    draw_grid(tmp_path / "grid.png", images, 3)
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape == (8, 18, 3)
    assert (pixels[:4, :6] == 80).all()
    assert (pixels[1:3, 8:10] == (200, 10, 30)).all()
    assert (pixels[:4, 13:17] == 255).all()
    assert (pixels[4:, :6] == 51).all()
    assert pixels[:4, 6:12].sum() == 4 * (200 + 10 + 30)
    assert not pixels[4:, 6:].any()


def test_a_very_long_grid_is_scaled_down(tmp_path):
    draw_grid(tmp_path / "grid.png", [np.full((700, 10), 90, np.uint8)] * 40, 1)
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape == (12_000, 4, 3)
    assert (pixels == 90).all()


def test_sample_patches_are_in_rows_of_ten(tmp_path):
    patches = np.linspace(0, 1, 40, dtype=np.float32)[:, None, None, None] * np.ones((48, 48, 1))
    sample_patches(tmp_path / "patches.png", patches)
    pixels = read(tmp_path / "patches.png")
    assert pixels.shape == (4 * 100 + 4, 10 * 100 + 4, 3)
    centres = pixels[52::100, 52::100, 0].ravel()
    np.testing.assert_array_equal(centres, np.round(np.linspace(0, 1, 40) * 255))


def test_overlay_colours_true_positives_false_positives_and_false_negatives(case):
    regions = compare(case["truth"], case["probability"], case["field_of_view"], 0.5)
    original = case["original"]
    painted = paint(original, regions)
    assert {name: region.sum() for name, region in regions.items()} == {
        "true positive": 20 * 16,
        "false positive": 20 * 16,
        "false negative": 400,
    }
    for name, (row, column) in {
        "true positive": (10, 10),
        "false positive": (30, 10),
        "false negative": (10, 30),
    }.items():
        mixed = 0.62 * 110 + 0.38 * np.array(OVERLAY_COLOURS[name])
        np.testing.assert_allclose(painted[row, column], mixed, atol=0.51)
    # True negatives and pixels outside the field of view keep their grey.
    assert (painted[20:, 20:] == original[20:, 20:, None]).all()
    assert (painted[:, :4] == original[:, :4, None]).all()


def test_overlay_has_the_colours_and_crisp_outlines(tmp_path, case):
    overlay(tmp_path / "overlay.png", **case, threshold=0.5, caption="Dice 0.5")
    pixels = read(tmp_path / "overlay.png")
    for colour in OVERLAY_COLOURS.values():
        assert count(pixels, colour, tolerance=25) > 200
        assert count(pixels, 0.62 * 110 + 0.38 * np.array(colour), tolerance=1) > 20_000


def test_faint_patches_stay_faint(tmp_path):
    sample_patches(tmp_path / "patches.png", np.full((2, 48, 48), 0.004, np.float32))
    assert read(tmp_path / "patches.png")[52, 52].tolist() == [1, 1, 1]


def test_labelled_rows_place_each_image_in_its_row_and_column(tmp_path, case):
    colour = np.full((40, 40, 3), (9, 200, 9), np.uint8)
    rows = {
        "Original": [case["original"], colour],
        "Ground truth": [case["truth"]] * 2,
        "Prediction": [case["probability"]] * 2,
    }
    labelled_rows(tmp_path / "rows.png", rows, ["2-1", "other"])
    pixels = read(tmp_path / "rows.png")
    head, margin, step = 50, 54, 522
    first, second = margin + 128, margin + step + 384
    assert abs(int(pixels[head + 256, first, 0]) - 105) < 10
    assert tuple(pixels[head + 256, second]) == (9, 200, 9)
    truth = head + step
    assert tuple(pixels[truth + 128, first]) == (255, 255, 255)
    assert tuple(pixels[truth + 384, first]) == (0, 0, 0)
    assert tuple(pixels[truth + step + 256, first]) == (230, 230, 230)
    assert tuple(pixels[truth + step + 256, second]) == (26, 26, 26)


def test_titles_of_narrow_columns_do_not_overlap(tmp_path):
    portrait = np.zeros((512, 256), np.uint8)
    rows = {"Original": [portrait, portrait]}
    labelled_rows(tmp_path / "rows.png", rows, ["a" * 50, "b" * 50])
    heading = (read(tmp_path / "rows.png")[:40] < 128).any(axis=(0, 2))
    assert heading.any() and not heading[313:318].any(), "the gap between the columns"


@pytest.mark.parametrize(("threshold", "shape"), [(0.25, (40, 40)), (0.0, (40, 40)), (None, (200, 12))])
def test_labelled_rows_have_a_scale_of_probability_with_the_threshold(tmp_path, threshold, shape):
    image = np.zeros(shape, np.float32)
    labelled_rows(tmp_path / "rows.png", {"Prediction": [image]}, ["1"], threshold=threshold)
    pixels = read(tmp_path / "rows.png")
    assert pixels.shape[1] >= 420, "room for the texts"
    scale = pixels[-43]  # through the middle of the bar
    width = min(256, len(scale) // 3)
    left = (len(scale) - width) // 2
    assert scale[left - 3].tolist() == scale[left + width + 2].tolist() == [255] * 3
    levels = scale[left : left + width, 0].astype(int)
    marked = (scale[left : left + width] == (213, 94, 0)).all(axis=1)
    if threshold is None:
        assert not marked.any()
    else:
        assert np.flatnonzero(marked).mean() == pytest.approx(threshold * (width - 1), abs=1)
    beside = np.abs(np.arange(width) - (threshold or 0) * (width - 1)) > 4
    expected = np.arange(width) / (width - 1) * 255
    np.testing.assert_allclose(levels[beside], expected[beside], atol=1)


def test_bars_have_title_axes_intervals_and_a_word_for_scores_that_are_not_defined(tmp_path, monkeypatch):
    drawn = []
    vlines = Axes.vlines

    def spy(axes, x, low, high, **style):
        drawn.append((low, high))
        return vlines(axes, x, low, high, **style)

    monkeypatch.setattr(Axes, "vlines", spy)
    nan = np.nan
    groups = {
        "unet": np.array([[0.8, 0.7, 0.85], [nan, nan, nan]]),
        "_darkness": np.array([[0.6, nan, nan], [0.5, 0.51, 0.6]]),
    }
    colours = ["#0072B2", "#9A9A9A"]
    file = tmp_path / "bars.png"
    bar_chart(
        file,
        ["AUC", "F1"],
        groups,
        colours,
        hatched=[False] * len(colours),
        subtitle="95 %",
        formats=("png", "svg"),
    )
    for ends, rows in zip(drawn, groups.values(), strict=True):
        np.testing.assert_array_equal(np.column_stack(ends), rows[:, 1:])
    texts = re.findall("<!-- (.*) -->", file.with_suffix(".svg").read_text())
    for text in ("Scores of the networks", "95 %", "Score", "Value", "AUC", "F1", "unet", " _darkness"):
        assert text in texts
    assert [text for text in texts if text in ("0.800", "0.600", "0.500", "n/a")] == [
        "0.800", "n/a", "0.600", "0.500",
    ]  # fmt: skip
    assert count(read(file), NETWORK_BLUE) > 1000


def entry(number):
    truth = np.zeros((80, 100), np.uint8)
    truth[30:50, 30:60] = 1
    field_of_view = np.zeros((80, 100), np.uint8)
    field_of_view[10:70, 10:90] = 1
    title = f"{number}-1 患者 · CNP 12.9 %"
    image = np.full((80, 100), 70, np.uint8)
    return lambda: ContactSheetEntry(title, image, truth, field_of_view)


def test_contact_sheet_outlines_truth_and_field_of_view(tmp_path):
    parts = {part: [entry(1)] for part in ("train", "test")}
    contact_sheet(tmp_path / "sheet.png", parts, "CNP")
    pixels = read(tmp_path / "sheet.png")
    side, gap, label, head = 256, 12, 24, 48
    for top in (head + head + label, head + 2 * head + side + label + gap + label):
        thumbnail = pixels[top : top + side, gap : gap + side]
        # 100 x 80 becomes 256 x 205, in the middle of the square.
        assert (thumbnail[:24] == 0).all()
        scale, above = 2.56, 25
        upper_truth = thumbnail[above + round(30 * scale) - 1 :][:3, round(45 * scale)]
        assert count(upper_truth, TRUTH_YELLOW, tolerance=90) >= 1
        upper_field = thumbnail[above + round(10 * scale) - 1 :][:3, round(50 * scale)]
        assert count(upper_field, FIELD_SKY, tolerance=90) >= 1
        assert tuple(thumbnail[above + round(40 * scale), round(45 * scale)]) == (70, 70, 70)


@pytest.mark.filterwarnings("error")  # Matplotlib warns of characters that a font does not have
def test_a_legend_has_any_characters(tmp_path):
    for name, structure in (("chinese", "无灌注区"), ("dollar", "$a$ $b")):
        contact_sheet(tmp_path / f"{name}.png", {"train": [entry(1)]}, structure)
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.plot([0, 1], label="first line\nsecond, 无灌注区")
    legend_inside(axes)
    (text,) = axes.get_legend().get_texts()
    assert text.get_text().startswith("first line\nsecond, ")
    save_figure(figure, tmp_path / "curve.png")


def test_contact_sheet_of_many_shows_some_of_each_part(tmp_path, monkeypatch):
    written = []
    write = dataset_preview.write

    def spy(axes, text, *place, **style):
        written.append(text)
        write(axes, text, *place, **style)

    monkeypatch.setattr(dataset_preview, "write", spy)
    unread = [None] * 5  # what is not shown is not read
    many = {"train": [*map(entry, range(4)), *unread], "test": [entry(n) for n in range(2)]}
    contact_sheet(tmp_path / "sheet.png", many, "CNP", limit=8)
    assert "train · 9 images (5 more than shown here)" in written
    assert "test · 2 images" in written
    assert len(written) == 2 + 4 + 2


def test_preprocessing_figure_shows_each_step(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    steps = [("grey", ramp), ("standardised", ramp / 40.0 - 3), ("γ $0.8_1$", ramp / 255.0)]
    preprocessing_figure(tmp_path / "steps.png", steps)
    pixels = read(tmp_path / "steps.png")
    assert all(count(third, NETWORK_BLUE) > 500 for third in np.array_split(pixels, 3, axis=1))


def test_names_are_drawn_as_they_are_or_with_question_marks():
    assert figure_style.drawable("a$x_1$ é") == "a$x_1$ é"
    assert figure_style.drawable("a\n\ufffe") == "a??"
    assert figure_style.shortened("abcdefghij", 5) == "ab…ij"


def test_nothing_half_written_is_left_when_drawing_fails(tmp_path, case, monkeypatch):
    def fail(self, content):
        with self.open("wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    (tmp_path / "overlay.png").write_bytes(b"earlier")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"overlay\.png: cannot be written: disk full"):
        overlay(tmp_path / "overlay.png", **case, threshold=0.5, caption="Dice 0.5")
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("overlay.png", b"earlier")]
