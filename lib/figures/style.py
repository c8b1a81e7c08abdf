"""What all figures share: colours, fonts, axes, legends, saving.

Matplotlib's objects are used without pyplot, so that nothing is global and any thread may draw.
Colours are those of Okabe and Ito (2008), told apart under the common forms of colour blindness.
"""

import functools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from lib.images.png import COMPRESSION, write_png
from lib.runtime.atomic_files import written_atomically

BLUE, ORANGE, VERMILION, YELLOW, SKY = "#0072B2", "#E69F00", "#D55E00", "#F0E442", "#56B4E9"
INK, FAINT = "#222222", "#9A9A9A"
NETWORKS = (BLUE, VERMILION, "#009E73", "#CC79A7", SKY, ORANGE, INK)
"""One colour a network where several are compared."""

CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Heiti TC",
    "Arial Unicode MS",
)
"""For file names; the first that is installed is used."""

DOTS_PER_INCH = 300


@functools.cache
def font_families() -> list[str]:
    """DejaVu Sans, and a Chinese font where one is installed."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in CHINESE_FONTS if name in installed][:1]]


@functools.cache
def _known_characters() -> frozenset[int]:
    fonts = [get_font(findfont(FontProperties(family=name))) for name in font_families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))


def drawable(text: str) -> str:
    """The text with "?" for what no installed font can draw: Matplotlib would warn of each."""
    known = _known_characters()
    return "".join(c if ord(c) in known and c.isprintable() else "?" for c in text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the middle left out."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-(length - length // 2 - 1) :]}"


def format_score(value: float | None) -> str:
    """Three decimals, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def write(axes: Axes, text: str, x: float, y: float, size: float, **style: object) -> None:
    """Text as it is, never as a formula, in fonts that have its characters."""
    style = {"va": "center", "color": INK} | style
    axes.text(
        x, y, drawable(text), fontsize=size, parse_math=False, fontfamily=font_families(), **style
    )


def write_in_middle(axes: Axes, text: str) -> None:
    """Instead of a curve that is not defined."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK)


def new_figure(width: float, height: float) -> Figure:
    """A white figure in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def pixel_axes(height: int, width: int) -> tuple[Figure, Axes]:
    """A figure without a ground, of `width` by `height` dots, in whose axes a unit is a dot."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Faint lines, no frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)


def legend_below(axes: Axes) -> None:
    """Where it hides no curve; whatever there is to explain."""
    if not axes.get_legend_handles_labels()[0]:
        return
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.1),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
    )


def legend(axes: Axes, place: str) -> bool:
    """Whether there was anything to explain."""
    anything = bool(axes.get_legend_handles_labels()[0])
    if anything:
        axes.legend(loc=place, fontsize=8.5, framealpha=0.9, edgecolor="none", labelcolor=INK)
    return anything


def mark_operating_point(axes: Axes, x: float, y: float, label: str) -> None:
    """Mark the point of a curve at which a threshold, or an epoch, was chosen."""
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker="o",
        markersize=7,
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=1.6,
        zorder=5,
        label=label,
    )


def save_figure(figure: Figure, file: Path, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a PNG that appears whole; the figure is empty afterwards."""
    with written_atomically(file) as (beside,):
        figure.savefig(
            beside, format="png", dpi=dots_per_inch, pil_kwargs={"compress_level": COMPRESSION}
        )
    _empty(figure)


def save_with_canvas(figure: Figure, pixels: np.ndarray, file: Path) -> None:
    """Write a PNG of pixels (H, W, 3) uint8 over which a figure of `pixel_axes` is drawn, as `save_figure`.

    Matplotlib's own ways to show an image resample it, in several copies as floats.
    """
    renderer = figure.canvas.get_renderer()
    drawn = np.asarray(renderer.buffer_rgba())
    drawn[..., :3], drawn[..., 3] = pixels, 255
    figure.draw(renderer)
    write_png(file, drawn[..., :3])
    _empty(figure)


def _empty(figure: Figure) -> None:
    # A figure and its parts hold each other: the pixels of many would wait for the garbage collector.
    figure.clear()
    FigureCanvasBase(figure)
