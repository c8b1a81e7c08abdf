"""Read LabelMe files, rasterise their shapes as a mask, and write a mask as a LabelMe file.

The labelme package is not used: importing it disables Pillow's protection against decompression bombs.
"""

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lib.images.checked_files import errors_naming
from lib.images.outlines import Area, areas
from lib.images.png import encode_png
from lib.images.reading import PILLOW_FORMATS, decode_image, decode_mask
from lib.runtime.errors import UserError, raise_all

MAX_BYTES = 512 * 2**20
"""Largest file that is read; LabelMe files may contain the image."""

MAX_POINTS = 100_000
"""Limit for one shape: the time to fill a polygon grows with the square of its points (here: seconds)."""

LABELME_VERSION = "5.5.0"
"""Version whose file layout is written."""

BACKGROUND = "_background_"
"""Label of LabelMe's converters for background: such a shape erases what is drawn before it."""

_POINTS_EXPECTED: dict[str, tuple[Collection[int], str]] = {
    "polygon": (range(3, MAX_POINTS + 1), "at least 3 points"),
    "rectangle": ((2, 4), "2 or 4 points"),
    "oriented_rectangle": ((4,), "4 points"),  # LabelMe 6
    "rotation": ((4,), "4 points"),  # X-AnyLabeling's name for it
    "quadrilateral": ((4,), "4 points"),  # X-AnyLabeling
    "circle": ((2,), "2 points"),
    "mask": ((2,), "2 points"),
}


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape of a LabelMe file.

    Attributes:
        number: position in the file, from 1.
        label: the structure that it outlines, e.g. "NP".
        kind: LabelMe's `shape_type`.
        points: float64 (K, 2), x and y in pixels; the centre of the first pixel is (0, 0).
        mask: uint8 (h, w) in {0, 1} for the kind "mask"; its upper left pixel is at `points[0]`.
        group: LabelMe's `group_id`, as text; None if the shape is in no group.
        difficult: X-AnyLabeling's flag; in a group it marks a hole.
    """

    number: int
    label: str
    kind: str
    points: np.ndarray
    mask: np.ndarray | None = None
    group: str | None = None
    difficult: bool = False

    def __str__(self) -> str:
        return f"shape {self.number} ({self.label}, {self.kind})"


@dataclass(frozen=True, eq=False)
class Annotation:
    """Content of one LabelMe file.

    Attributes:
        path: the file.
        image_path_name: file name of the image; folders of the annotator's computer are removed.
        height: image height in pixels; None if the file does not contain it (old versions of LabelMe).
        width: image width in pixels, or None.
        shapes: all shapes in the order of the file.
        embedded_size: height and width of the picture in the file, on which the shapes were drawn; None if
            there is none, or it cannot be read.
        embedded: the bytes of this picture, or None.
    """

    path: Path
    image_path_name: str
    height: int | None
    width: int | None
    shapes: tuple[Shape, ...]
    embedded_size: tuple[int, int] | None = None
    embedded: bytes | None = field(default=None, repr=False)

    def embedded_picture(self) -> np.ndarray | None:
        """The picture in the file: (H, W) or (H, W, 3) uint8; None if there is none that can be read."""
        try:
            return None if self.embedded is None else decode_image(self.embedded, "imageData")
        except UserError:
            return None


def read_labelme(path: Path) -> Annotation:
    """Read a file of LabelMe 3 to 6 or of X-AnyLabeling, in UTF-8 or the encoding of Chinese Windows.

    Only the header of the embedded image (`imageData`) is decoded, for its size.

    Raises:
        UserError: lists every error in the file's keys and shapes; or names the other program (CVAT, COCO,
            VIA, Label Studio) that wrote the file.
    """
    content = _parse(path)
    faults = []
    name = content.get("imagePath")
    name = re.split(r"[/\\]", name)[-1] if isinstance(name, str) else ""
    if not name.strip(".") or "\0" in name:
        faults.append("imagePath: expected the image's file name")
    height, width = (content.get(key) for key in ("imageHeight", "imageWidth"))
    if not all(length is None or type(length) is int for length in (height, width)):
        found = str([height, width])[:80]
        faults.append(f"imageHeight, imageWidth: found {found}, expected whole numbers")
    items = content.get("shapes")
    if not isinstance(items, list):
        faults.append("shapes: expected a list")
        items = []
    shapes = []
    for number, item in enumerate(items, 1):
        try:
            shapes.append(_shape(number, item))
        except UserError as error:
            faults.append(str(error))
    raise_all(faults, str(path))
    embedded = _decoded(content.get("imageData"))
    return Annotation(path, name, height, width, tuple(shapes), _embedded_size(embedded), embedded)


def rasterise(
    annotation: Annotation, labels: Collection[str], ignore_labels: Collection[str], height: int, width: int
) -> np.ndarray:
    """Draw the shapes that have one of `labels`, in the order of the file; their edges are included.

    Shapes are drawn as by LabelMe's own converter. They may overlap, and are clipped at the border of
    the image. A shape with the label `_background_` erases what was drawn before it, as in that converter,
    also if `ignore_labels` contains this label. A hole of X-AnyLabeling (a shape that is marked as difficult,
    in the group of shapes of its label that are not) is cut out of the shapes of its group.

    Returns:
        uint8 (height, width) in {0, 1}.

    Raises:
        UserError: lists a size other than `height` x `width`, labels that are in neither list, and each
            shape with one of `labels` that encloses no area, is more than one image size outside, or is a
            hole outside the shapes of its group.
    """
    faults = _size_faults(annotation, height, width)
    known = {*labels, *ignore_labels, BACKGROUND}
    unknown = Counter(s.label for s in annotation.shapes if s.label not in known)
    if unknown:
        found = ", ".join(f"{label!r} ({count})" for label, count in sorted(unknown.items()))
        faults.append(
            f"unknown labels: {found}; add each to [preparation] labels or ignore_labels "
            "(upper and lower case differ)"
        )
    drawn = [s for s in annotation.shapes if s.label in {*labels, BACKGROUND}]
    faults += [f"{s}: {fault}" for s in drawn if (fault := _fault(s, height, width))]
    raise_all(faults, str(annotation.path))
    canvas = Image.new("L", (width, height))
    for shapes, holes in _grouped(drawn):
        if not holes:
            _draw(canvas, shapes[0], 0 if shapes[0].label == BACKGROUND and BACKGROUND not in labels else 1)
            continue
        mask, cut = _union(shapes, height, width), _union(holes, height, width)
        faults += [
            f"{hole}: is marked as difficult in group {hole.group}, which is a hole in X-AnyLabeling, but is "
            "outside the other shapes of the group; remove the mark, or its group"
            for hole in holes
            if not (mask & _union([hole], height, width)).any()
        ]
        canvas.paste(1, (0, 0), Image.fromarray((mask & (1 - cut)) * np.uint8(255)))
    raise_all(faults, str(annotation.path))
    return np.array(canvas)


def _size_faults(annotation: Annotation, height: int, width: int) -> list[str]:
    """One line for each size in the file other than `height` x `width`."""
    declared = (annotation.height or height, annotation.width or width)
    faults = []
    if declared != (height, width):
        faults.append(f"drawn on {declared[1]}x{declared[0]} pixels, the image has {width}x{height}")
    embedded = annotation.embedded_size or declared
    if embedded != declared:  # LabelMe shows the embedded picture
        faults.append(
            f"drawn on its embedded picture (imageData) of {embedded[1]}x{embedded[0]} pixels, the image has "
            f"{width}x{height}: use the embedded picture as the image, or draw again"
        )
    return faults


def _grouped(drawn: Sequence[Shape]) -> list[tuple[list[Shape], list[Shape]]]:
    """(Shapes, holes to be cut out of them), in the order in which they are drawn.

    A shape without holes is alone. The shapes of a group with holes are together, at the place of the first.
    """
    keys = [None if s.group is None else (s.label, s.group) for s in drawn]
    with_holes = {k for k, s in zip(keys, drawn, strict=True) if k and s.difficult}
    with_holes &= {k for k, s in zip(keys, drawn, strict=True) if k and not s.difficult}
    found: list[tuple[list[Shape], list[Shape]]] = []
    places: dict[tuple[str, str], int] = {}
    for key, shape in zip(keys, drawn, strict=True):
        if key not in with_holes or key is None:
            found.append(([shape], []))
            continue
        if key not in places:
            places[key] = len(found)
            found.append(([], []))
        found[places[key]][shape.difficult].append(shape)
    return found


def _union(shapes: Sequence[Shape], height: int, width: int) -> np.ndarray:
    """uint8 (height, width) in {0, 1}."""
    canvas = Image.new("L", (width, height))
    for shape in shapes:
        _draw(canvas, shape)
    return np.array(canvas)


def labelme_document(
    mask: np.ndarray, label: str, image_path: str, *, image_png: bytes | None = None
) -> dict:
    """The content of a LabelMe file in which each area of a mask is one shape.

    Args:
        mask: (H, W) bool.
        label: label of all shapes.
        image_path: path of the image, relative to the folder of the LabelMe file.
        image_png: the image as PNG; without it, LabelMe needs the image file at `image_path`.
    """
    height, width = mask.shape
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [_area_shape(area, label) for area in areas(mask)],
        "imagePath": image_path,
        "imageData": base64.b64encode(image_png).decode() if image_png else None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _area_shape(area: Area, label: str) -> dict:
    shape: dict = {"label": label, "group_id": None, "description": "", "flags": {}}
    if area.polygon is not None and len(area.polygon) <= MAX_POINTS:
        return {**shape, "points": area.polygon.tolist(), "shape_type": "polygon", "mask": None}
    left, top = area.corner
    height, width = area.mask.shape
    return {
        **shape,
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "shape_type": "mask",
        "mask": base64.b64encode(encode_png(area.mask.astype(np.uint8) * 255)).decode(),
    }


def _parse(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path}: no such file, or not a regular file")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES // 2**20} MiB; expected a LabelMe file")
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: cannot be read ({reason})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if program := _other_program(content):
        raise UserError(
            f"{path}: a file of {program}, not of LabelMe; export masks from that program, one mask image "
            "for each image (0 background, 255 foreground), and put them in the folder masks"
        )
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a LabelMe file; expected an object with shapes and imagePath")
    return content


def _other_program(content: object) -> str | None:
    """The program or format of an annotation file that is not LabelMe's, by its keys; None if not known."""
    if isinstance(content, list):
        tasks = [item for item in content if isinstance(item, dict)]
        if any("annotations" in task and "data" in task for task in tasks):
            return "Label Studio"
        return "CVAT" if any("shapes" in task and "tracks" in task for task in tasks) else None
    if not isinstance(content, dict) or "shapes" in content:
        return None
    if {"images", "annotations"} <= content.keys():
        return "COCO (in Python, pycocotools draws its masks: COCO(file).annToMask)"
    if {"categories", "items"} <= content.keys():
        return "CVAT (Datumaro; its export as Segmentation mask has one picture for each image)"
    entries = [entry for entry in content.values() if isinstance(entry, dict)]
    if "_via_img_metadata" in content or {"project", "file", "metadata"} <= content.keys():
        return "VIA (VGG Image Annotator; it exports COCO)"
    if any({"filename", "regions"} <= entry.keys() for entry in entries):
        return "VIA (VGG Image Annotator; it exports COCO)"
    return None


def _decoded(encoded: object) -> bytes | None:
    try:
        return base64.b64decode(encoded) if isinstance(encoded, str) else None
    except ValueError:
        return None


def _embedded_size(embedded: bytes | None) -> tuple[int, int] | None:
    """Height and width in the header of an embedded picture, as it is stored: LabelMe shows it so."""
    if embedded is None:
        return None
    try:
        with errors_naming("imageData"), Image.open(BytesIO(embedded), formats=PILLOW_FORMATS) as picture:
            return picture.height, picture.width
    except UserError:
        return None


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError("neither UTF-8 nor GB 18030; save it as UTF-8")


def _shape(number: int, item: object) -> Shape:
    if not isinstance(item, dict):
        raise UserError(f"shape {number}: expected an object with label and points")
    label, kind = item.get("label"), item.get("shape_type")
    kind = "polygon" if kind is None else kind  # LabelMe 3
    if not isinstance(label, str) or not isinstance(kind, str):
        raise UserError(f"shape {number}: label and shape_type must be text")
    try:
        points = np.asarray(item.get("points"), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise UserError(f"shape {number} ({label}): points must be a list of [x, y]")
    if not np.isfinite(points).all():
        raise UserError(f"shape {number} ({label}): a point is NaN or infinite")
    group = item.get("group_id")
    group = None if group is None else str(group)[:80]
    shape = Shape(number, label, kind, points, group=group, difficult=item.get("difficult") is True)
    if kind != "mask":
        return shape
    return replace(shape, mask=_embedded_mask(item.get("mask"), str(shape)))


def _embedded_mask(encoded: object, source: str) -> np.ndarray:
    if not isinstance(encoded, str):
        raise UserError(f"{source}: has no mask")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise UserError(f"{source}: its mask is not base64 ({error})") from error
    return decode_mask(data, source)


def _fault(shape: Shape, height: int, width: int) -> str | None:
    """Why a shape cannot be drawn, or None."""
    points = shape.points
    if shape.kind not in _POINTS_EXPECTED:
        return f"encloses no area; expected {', '.join(_POINTS_EXPECTED)}"
    if len(points) > MAX_POINTS:
        return f"has {len(points)} points, expected at most {MAX_POINTS}"
    numbers, expected = _POINTS_EXPECTED[shape.kind]
    if len(points) not in numbers:
        return f"has {len(points)} points, expected {expected}"
    size = np.array([width, height])
    outside = ((points < -size) | (points > 2 * size)).any(axis=1)
    if outside.any():
        x, y = points[outside][0]
        return f"point ({x:g}, {y:g}) is far outside the image of {width}x{height} pixels"
    if shape.mask is not None:
        columns, rows = (points[1].astype(int) - points[0].astype(int) + 1).tolist()
        if shape.mask.shape != (rows, columns):
            found = f"{shape.mask.shape[1]}x{shape.mask.shape[0]}"
            return f"its mask has {found} pixels, its corners say {columns}x{rows}"
    elif _is_degenerate(shape):
        return "all its points are on one line; delete it or draw it again"
    return None


def _is_degenerate(shape: Shape) -> bool:
    """Whether all points are on one line; a signed area of 0 is no proof (figure of eight)."""
    from_first = shape.points - shape.points[0]
    if shape.kind == "circle":
        return not from_first.any()
    if len(from_first) == 2:  # a rectangle
        return not from_first[1].all()
    farthest = from_first[np.abs(from_first).sum(axis=1).argmax()]
    twice_areas = from_first @ np.array([-farthest[1], farthest[0]])
    return bool(np.abs(twice_areas).max() <= 1e-9 * (farthest @ farthest))


def _draw(canvas: Image.Image, shape: Shape, value: int = 1) -> None:
    """Set the pixels of a shape by the same calls as LabelMe's converter: edges are where users see them."""
    draw = ImageDraw.Draw(canvas)
    if shape.mask is not None:
        corner = tuple(shape.points[0].astype(int).tolist())
        canvas.paste(value, corner, Image.fromarray(shape.mask * 255))
    elif shape.kind == "circle":
        (x, y), radius = shape.points[0], math.dist(*shape.points)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=value, fill=value)
    elif shape.kind == "rectangle" and len(shape.points) == 2:
        corners = np.sort(shape.points, axis=0)  # Pillow expects the upper left corner first
        draw.rectangle(corners.ravel().tolist(), outline=value, fill=value)
    else:
        draw.polygon(shape.points.ravel().tolist(), outline=value, fill=value)
