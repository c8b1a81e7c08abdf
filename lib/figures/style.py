"""Colours, fonts, axes, legends and saving for all figures.

Matplotlib is used without pyplot: no global state, so that any thread may draw. The colours are those of
Okabe and Ito (2008), which people with colour blindness can distinguish.
"""

import functools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.legend import Legend

from lib.images.png import COMPRESSION, write_png
from lib.runtime.atomic_files import written_atomically

BLUE, ORANGE, VERMILION, YELLOW, SKY = "#0072B2", "#E69F00", "#D55E00", "#F0E442", "#56B4E9"
INK, FAINT = "#222222", "#9A9A9A"
NETWORKS = (BLUE, VERMILION, "#009E73", "#CC79A7", SKY, ORANGE, INK)
"""Colours of the networks that one figure compares."""

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
"""Fonts for Chinese file names; the first one that is installed is used."""

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
    """The text, with "?" for each character that no installed font has; Matplotlib would warn of it."""
    known = _known_characters()
    return "".join(c if ord(c) in known and c.isprintable() else "?" for c in text)


def legend_text(text: str) -> str:
    """The text as a label of a legend: Matplotlib leaves out labels that begin with "_"."""
    return f" {text}" if text.startswith("_") else text


def shortened(text: str, length: int) -> str:
    """The text, cut in its middle to at most `length` characters."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}…{text[-(length - length // 2 - 1) :]}"


def write(axes: Axes, text: str, x: float, y: float, size: float, **style: Any) -> None:
    """Write text without math mode, in fonts that have its characters."""
    style = {"va": "center", "color": INK} | style
    axes.text(x, y, drawable(text), fontsize=size, parse_math=False, fontfamily=font_families(), **style)


def write_in_middle(axes: Axes, text: str) -> None:
    """Write text where a curve would be that is not defined."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK)


def new_figure(width: float, height: float) -> Figure:
    """A white figure in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def pixel_axes(height: int, width: int) -> tuple[Figure, Axes]:
    """A transparent figure of `width` by `height` pixels; one unit of its axes is one pixel."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    return figure, axes


def style_axes(axes: Axes) -> None:
    """Draw the axes with a faint grid and without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=9)


def title_and_subtitle(axes: Axes, title: str, subtitle: str) -> None:
    """Write the title above the axes, and a smaller line below it."""
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=22)
    axes.annotate(
        subtitle, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=INK
    )


def draw_legend(owner: Axes | Figure, size: float, **options: Any) -> Legend:
    """Draw a legend, without math mode, in fonts that have its characters."""
    legend = owner.legend(prop={"family": font_families(), "size": size}, **options)
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_text("\n".join(map(drawable, text.get_text().split("\n"))))
    return legend


LEGEND_CHARACTERS = 40
"""Length of a line in the legend to the right of the axes."""


def legend_right(axes: Axes, title: str) -> None:
    """Put the legend to the right of the axes."""
    legend = draw_legend(
        axes,
        9,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        frameon=False,
        labelcolor=INK,
        title=title,
        title_fontproperties={"size": 9, "weight": "bold"},
    )
    legend.set_alignment("left")
    for text in legend.get_texts():
        text.set_text(textwrap.fill(text.get_text(), LEGEND_CHARACTERS))


def legend_below(axes: Axes) -> None:
    """Put the legend below the axes, where it hides no curve."""
    if not axes.get_legend_handles_labels()[0]:
        return
    draw_legend(axes, 8.5, loc="upper left", bbox_to_anchor=(-0.02, -0.1), frameon=False, labelcolor=INK)


def legend_inside(axes: Axes) -> bool:
    """Add a legend if there are labels; returns whether there are."""
    has_labels = bool(axes.get_legend_handles_labels()[0])
    if has_labels:
        draw_legend(axes, 8.5, loc="best", framealpha=0.9, edgecolor="none", labelcolor=INK)
    return has_labels


def mark_operating_point(
    axes: Axes, x: float, y: float, label: str, colour: str = INK, marker: str = "o"
) -> None:
    """Mark the point of a curve at which a threshold, or an epoch, was chosen; circles are empty."""
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker=marker,
        markersize=7,
        markerfacecolor="white" if marker == "o" else colour,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=5,
        label=label,
    )


def save_figure(
    figure: Figure, file: Path, dots_per_inch: int = DOTS_PER_INCH, formats: Sequence[str] = ("png",)
) -> None:
    """Write the figure in one step (no partial file); it is empty afterwards.

    Args:
        figure: the figure.
        file: its name; each format replaces the ending.
        dots_per_inch: of the PNG.
        formats: "png", "pdf" and "svg"; the last two are vector graphics.
    """
    files = [file.with_suffix(f".{name}") for name in formats]
    with written_atomically(*files) as beside:
        for path, name in zip(beside, formats, strict=True):
            settings: dict[str, Any] = (
                {"pil_kwargs": {"compress_level": COMPRESSION}} if name == "png" else {}
            )
            figure.savefig(path, format=name, dpi=dots_per_inch, **settings)
    _empty(figure)


def save_with_canvas(figure: Figure, pixels: np.ndarray, file: Path) -> None:
    """Write `pixels`, (H, W, 3) uint8, with a figure of `pixel_axes` drawn over them, as `save_figure` does.

    Matplotlib's own functions for images resample the image, in several copies of floats.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn = np.asarray(renderer.buffer_rgba())
    drawn[..., :3], drawn[..., 3] = pixels, 255
    figure.draw(renderer)
    write_png(file, drawn[..., :3])
    _empty(figure)


def _empty(figure: Figure) -> None:
    # Reference cycles would keep the pixels of many figures until the garbage collector runs.
    figure.clear()
    FigureCanvasBase(figure)
