"""report.html: all results of a folder on one page, to read and print, in English and Chinese.

The page needs no other file and no internet. Its content security policy allows only its own script.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from lib.prediction.certainty.disagreement import RANGE_DEVIATIONS

REPORT = "report.html"

THUMBNAIL_WIDTH = 400
"""Pixels; twice the width on the page, for print."""

_NETWORK = {
    "model": ("Network", "网络"),
    "architecture": ("Architecture", "架构"),
    "structure": ("Structure", "结构"),
    "threshold": ("Threshold", "阈值"),
    "threshold_source": ("Threshold from", "阈值来源"),
    "min_area_px": ("Smallest area, pixels", "最小面积（像素）"),
    "weights_sha256": ("SHA-256 of the weights", "权重 SHA-256"),
}
"""Columns of the table of networks, from those of the measurements: heading in English and Chinese."""

_IMAGE = {
    "image": ("Image", "图像"),
    "ischaemic_index": ("Ischaemic index", "缺血指数"),
    "ischaemic_index_low": ("Range", "范围"),
    "area_fraction": ("Area fraction", "面积占比"),
    "area_fraction_low": ("Range", "范围"),
    "disagreement": ("Disagreement", "分歧度"),
    "mean_probability": ("Mean probability", "平均概率"),
    "number_of_areas": ("Areas", "区域数"),
    "area_mm2": ("Area, mm²", "面积（mm²）"),
    "area_px": ("Area, pixels", "面积（像素）"),
    "quality": ("Image quality", "图像质量"),
    "differs_from_training": ("Less reliable because", "可靠性较低的原因"),
    "network": ("Network", "网络"),
}
"""Columns of the table of images, in the same way; those without a value in any row are left out."""


_RANGE_MEANING = (
    f"the share if each probability is lowered or raised by {RANGE_DEVIATIONS:g} standard deviations of the "
    "network's views",
    f"各像素概率降低或升高 {RANGE_DEVIATIONS:g} 倍标准差（网络各次预测之间）时的占比",
)
_MEANINGS = {
    "ischaemic_index": (
        "share of the field of view that is outlined as not perfused",
        "视野中被勾画为无灌注的面积占比",
    ),
    "ischaemic_index_low": _RANGE_MEANING,
    "area_fraction": ("share of the field of view that is outlined", "视野中被勾画的面积占比"),
    "area_fraction_low": _RANGE_MEANING,
    "disagreement": (
        "mean standard deviation of the views in and near the outlines (order of review: review_order.csv)",
        "轮廓内及附近各次预测的平均标准差；修正顺序见 review_order.csv",
    ),
    "mean_probability": ("mean probability of the outlined pixels", "被勾画像素的平均概率"),
    "quality": (
        "faults of the image, with which the result is less reliable; “good” if there are none",
        "图像的缺陷（会降低结果可靠性）；无缺陷时为 good",
    ),
}
"""Explanations of columns, in English and Chinese, below the table."""


def write_report(file: Path, entries: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Write the page.

    Args:
        file: the file to be written.
        entries: of the record of the folder (`lib.prediction.results_record`), in the order of the page.
        folder: the folder of the results. An image whose overlay cannot be read has no thumbnail.
    """
    rows: list[dict[str, Any]] = []
    networks: dict[tuple[Any, ...], int] = {}
    for entry in entries:
        measured = entry["measurements"]
        number = networks.setdefault(tuple(measured.get(name) for name in _NETWORK), len(networks) + 1)
        overlay = folder / entry["files"]["overlay"][0]
        rows.append({"image": entry["image"], **measured, "network": number, "overlay": overlay})
    columns = [name for name in _IMAGE if any(_text(row, name) for row in rows)]
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    values = {
        "script_sha256": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "networks": _networks_table(networks),
        "number": len(rows),
        "headings": "".join(
            f'<th scope="col"><button type="button">{_both(*_IMAGE[n])}</button></th>' for n in columns
        ),
        "meanings": "".join(
            f"<dt>{_both(*_IMAGE[n])}</dt><dd>{_both(*_MEANINGS[n])}</dd>" for n in columns if n in _MEANINGS
        ),
    }
    before, after = (Template(part).substitute(values) for part in template.split("$rows"))
    with file.open("w", encoding="utf-8") as stream:  # row by row: a large folder has gigabytes of thumbnails
        stream.write(before)
        for row in rows:
            cells = "".join(_cell(row, name) for name in columns)
            stream.write(f"<tr><td>{_thumbnail(row['overlay'])}</td>{cells}</tr>\n")
        stream.write(after)


def _networks_table(networks: Mapping[tuple[Any, ...], int]) -> str:
    headings = "".join(f'<th scope="col">{_both(*heading)}</th>' for heading in _NETWORK.values())
    rows = []
    for values, number in networks.items():
        network = dict(zip(_NETWORK, values, strict=True))
        cells = "".join(f'<td class="text">{escape(_text(network, name))}</td>' for name in _NETWORK)
        rows.append(f'<tr><td class="number">{number}</td>{cells}</tr>')
    return f"<thead><tr><th></th>{headings}</tr></thead>\n<tbody>{''.join(rows)}</tbody>"


def _cell(row: Mapping[str, Any], name: str) -> str:
    """A cell whose attribute `data-value` is what the script sorts by."""
    value, text = row.get(name), escape(_text(row, name))
    if isinstance(value, int | float):
        return f'<td class="number" data-value="{value!r}">{text}</td>'
    return f'<td class="text" data-value="{text}">{text}</td>'


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if name.endswith("_low"):
        return f"{100 * value:.1f}–{100 * row[name.replace('_low', '_high')]:.1f} %"
    if name in ("ischaemic_index", "area_fraction"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _both(english: str, chinese: str) -> str:
    return f'<span lang="en">{english}</span><span lang="zh">{chinese}</span>'


def _thumbnail(overlay: Path) -> str:
    # cv2.imread ends Python if the path is not UTF-8.
    content = np.frombuffer(overlay.read_bytes() if overlay.is_file() else b"", np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        return ""
    size = (THUMBNAIL_WIDTH, max(1, round(picture.shape[0] * THUMBNAIL_WIDTH / picture.shape[1])))
    jpeg = cv2.imencode(".jpg", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))[1]
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}">'
