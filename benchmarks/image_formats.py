"""Which kinds of image files are read, and which are refused: writes docs/reference/image-formats.md.

    python -m benchmarks.image_formats

Each kind that tifffile, Pillow and imageio write is written and read again; the right pixels are those that
were written. Each file of pydicom's own test data is compared with SimpleITK, whose decoder is GDCM
(pip install SimpleITK).
"""

import io
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pydicom
import tifffile
from PIL import Image, features

from lib.images.reading import read_image
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

PAGE = PROJECT / "docs" / "reference" / "image-formats.md"
HEIGHT, WIDTH = 23, 37
MUST_BE_REFUSED = np.zeros((1, 1), np.uint8)
"""In place of pixels: the file has several images, or pixels that no viewer shows."""


@dataclass(frozen=True)
class Kind:
    """A file, and the pixels that a viewer shows: uint8 (H, W) or (H, W, 3), with a tolerance."""

    writer: str
    name: str
    suffix: str
    data: bytes
    shown: np.ndarray
    tolerance: int = 0


def outcome(kind: Kind, folder: Path) -> str:
    """ "read", "wrong: ..." or the message of the refusal."""
    path = folder / f"image{kind.suffix}"
    path.write_bytes(kind.data)
    try:
        found = read_image(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    return _compared(found, kind.shown, kind.tolerance)


def _compared(found: np.ndarray, expected: np.ndarray, tolerance: int) -> str:
    if found.shape != expected.shape:
        return f"wrong: shape {found.shape}, expected {expected.shape}"
    difference = np.abs(found.astype(int) - expected.astype(int)).max()
    return "read" if difference <= tolerance else f"wrong: differs by {difference}"


def shown(levels: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """The rule of `read_image`: blended with black; deeper than 8 bits: scaled from minimum to maximum."""
    levels = levels.astype(np.float64 if levels.dtype.itemsize > 1 else levels.dtype)
    if alpha is not None:
        share = alpha / (255 if alpha.dtype == np.uint8 else np.iinfo(alpha.dtype).max)
        levels = np.rint(levels * (share[..., None] if levels.ndim == 3 else share))
        levels = levels.astype(np.uint8) if alpha.dtype == np.uint8 else levels
    if levels.dtype != np.uint8:
        low, high = float(levels.min()), float(levels.max())
        levels = np.rint((levels.astype(np.float64) - low) * (255 / (high - low or 1))).astype(np.uint8)
    equal = levels.ndim == 3 and (levels == levels[..., :1]).all()
    return levels[..., 0] if equal else levels


def _levels(dtype: np.dtype, channels: int) -> np.ndarray:
    """Random values over the full range of the type: (H, W) or (H, W, C)."""
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    share = np.random.default_rng(0).random(shape)
    if dtype.kind in "fc":
        return (share * 7 - 3).astype(dtype)
    if dtype.kind == "b":
        return share > 0.5
    limits = np.iinfo(dtype)
    return (share * 0.999 * (float(limits.max) - float(limits.min)) + float(limits.min)).astype(dtype)


def tifffile_kinds() -> Iterator[Kind]:
    """All types, photometric interpretations, alpha, byte orders, planes and built-in compressions."""
    types = ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8"]
    colours = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "separated": 4, "cielab": 3, "ycbcr": 3}
    alphas = (None, "unspecified", "assocalpha", "unassalpha")
    for name, photometric, alpha, order, layout in itertools.product(
        types, colours, alphas, "<>", ("contig", "separate", "tiled", "zlib", "bigtiff", "predictor")
    ):
        dtype, channels = np.dtype(name), colours[photometric] + (alpha is not None)
        if layout == "separate" and channels == 1:
            continue
        levels = _levels(dtype, channels)
        if alpha == "assocalpha":  # colours times alpha are at most alpha
            levels = np.minimum(levels, levels[..., -1:])
        options: dict = {"photometric": photometric, "byteorder": order, "metadata": None}
        options |= {"tile": (16, 16)} if layout == "tiled" else {}
        options |= {"compression": "zlib"} if layout in {"zlib", "predictor"} else {}
        options |= {"predictor": True} if layout == "predictor" else {}
        options |= {"bigtiff": True} if layout == "bigtiff" else {}
        options |= {"extrasamples": [alpha]} if alpha else {}
        if channels > 1:
            options["planarconfig"] = "separate" if layout == "separate" else "contig"
        written = np.moveaxis(levels, -1, 0) if layout == "separate" else levels
        stream = io.BytesIO()
        try:
            tifffile.imwrite(stream, written, **options)
        except (ValueError, TypeError, KeyError, NotImplementedError, tifffile.TiffFileError):
            continue  # no such kind
        kind = f"{name} {photometric} {alpha or 'no alpha'} {order} {layout}"
        without_rule = dtype.kind == "c" or (alpha == "unassalpha" and dtype.kind != "u")
        expected = MUST_BE_REFUSED if without_rule else _shown_tiff(levels, photometric, alpha)
        yield Kind(
            "tifffile",
            kind,
            ".tif",
            stream.getvalue(),
            expected,
            int(alpha is not None or photometric in {"separated", "ycbcr"}),
        )


def _shown_tiff(levels: np.ndarray, photometric: str, alpha: str | None) -> np.ndarray:
    if levels.dtype == bool:
        levels = levels.astype(np.uint8) * 255
    opacity = levels[..., -1] if alpha == "unassalpha" else None
    if alpha:
        levels = levels[..., 0] if levels.shape[-1] == 2 else levels[..., :-1]
    if photometric == "miniswhite":
        levels = -levels if levels.dtype.kind == "f" else ~levels
    if photometric == "separated" and levels.dtype == np.uint8:
        levels = _cmyk_as_rgb(levels)
    if photometric == "ycbcr" and levels.dtype == np.uint8:
        levels = _ycbcr_as_rgb(levels)
    return shown(levels, opacity)


def _cmyk_as_rgb(levels: np.ndarray) -> np.ndarray:
    inverse = 255 - levels.astype(int)
    return (inverse[..., :3] * inverse[..., 3:] / 255).round().astype(np.uint8)


def _ycbcr_as_rgb(levels: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, full range."""
    luma, blue, red = np.moveaxis(levels.astype(float) - [0, 128, 128], -1, 0)
    rgb = luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue
    return np.stack(rgb, axis=-1).round().clip(0, 255).astype(np.uint8)


def stack_kinds() -> Iterator[Kind]:
    """Stacks of several images, which must be refused; reduced copies and masks are no images."""
    stack = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH), np.uint8)
    for name, options in {
        "stack of pages": {"metadata": None},
        "ImageJ stack": {"imagej": True},
        "stack with one directory": {"truncate": True},
        "OME stack": {"ome": True},
        "volume": {"volumetric": True, "tile": (1, 16, 16)},
    }.items():
        stream = io.BytesIO()
        tifffile.imwrite(stream, stack, photometric="minisblack", **options)
        yield Kind("tifffile", name, ".tif", stream.getvalue(), MUST_BE_REFUSED)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(stack[0], metadata=None)
        file.write(stack[1, ::2, ::2], subfiletype=1, metadata=None)
        file.write(stack[2] > 99, subfiletype=4, metadata=None)
    yield Kind("tifffile", "image, reduced copy, mask", ".tif", stream.getvalue(), stack[0])


def pillow_kinds() -> Iterator[Kind]:
    """All modes and formats of Pillow, with all compressions of TIFF."""
    modes = (
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
        "I",
        "I;16",
        "F",
    )
    tiff = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma", "group3", "group4", "jpeg")
    formats: list[tuple[str, dict, int]] = [("TIFF", {"compression": c}, 3 * (c == "jpeg")) for c in tiff]
    formats += [("PNG", {}, 0), ("PNG", {"bits": 4}, 0), ("BMP", {}, 0), ("PPM", {}, 0), ("GIF", {}, 0)]
    formats += [("WEBP", {"lossless": True, "exact": True}, 0)] * features.check("webp")
    formats += [("JPEG2000", {"irreversible": False}, 0)] * bool(features.check("jpg_2000"))
    formats += [("JPEG", {"quality": 100, "subsampling": 0}, 3)]
    for mode, (format_, options, tolerance) in itertools.product(modes, formats):
        image, expected, near = _pillow_image(mode)
        stream = io.BytesIO()
        try:
            image.save(stream, format_, **options)
        except (OSError, ValueError, KeyError, SystemError):
            continue  # no such kind
        if format_ == "PNG" and "bits" in options and mode != "P":
            continue
        if (format_ in {"GIF", "WEBP"} and mode in {"I", "I;16", "F", "LAB"}) or (
            format_ in {"GIF", "PPM"} and mode in {"LA", "RGBA"}
        ):
            continue  # Pillow writes other pixels
        if format_ == "BMP" and mode == "RGBA":
            expected = np.asarray(image.convert("RGB"))  # the fourth byte of a pixel has no meaning
        kind = f"{format_} of mode {mode} {' '.join(f'{k}={v}' for k, v in options.items())}".strip()
        lossy = 12 if format_ == "JPEG" or options.get("compression") == "jpeg" else 0
        yield Kind(
            "Pillow", kind, "." + format_.lower(), stream.getvalue(), expected, max(near, tolerance, lossy)
        )


def _pillow_image(mode: str) -> tuple[Image.Image, np.ndarray, int]:
    """An image, what a viewer shows, and the tolerance of converting its colours.

    Smooth, so that lossy compression changes little; of 16 levels, so that palettes hold it.
    """
    rows, columns = np.indices((HEIGHT, WIDTH))
    grey = ((rows + columns) // 4 * 16).astype(np.uint8)
    alpha = (255 - rows * 5).astype(np.uint8)
    rgb = np.stack([grey, 255 - grey, np.full_like(grey, 80)], axis=-1)
    if mode == "1":
        return Image.fromarray(grey > 99), np.where(grey > 99, 255, 0).astype(np.uint8), 0
    if mode == "L":
        return Image.fromarray(grey), grey, 0
    if mode == "LA":
        return Image.fromarray(np.stack([grey, alpha], -1), "LA"), shown(grey, alpha), 1
    if mode in {"P", "PA"}:
        image = Image.fromarray((grey // 16).astype(np.uint8)).convert("P")
        image.putdata((grey // 16).ravel().tolist())
        image.putpalette([v for i in range(16) for v in (i * 16, 255 - i * 16, 80)])
        return (image if mode == "P" else image.convert("PA")), rgb, 0
    if mode == "RGB":
        return Image.fromarray(rgb), rgb, 0
    if mode == "RGBA":
        return Image.fromarray(np.dstack([rgb, alpha]), "RGBA"), shown(rgb, alpha), 1
    if mode in {"I", "I;16", "F"}:
        levels = grey.astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]) * 100
        return Image.fromarray(levels), shown(levels), 0
    if mode == "LAB":
        return Image.new("LAB", (WIDTH, HEIGHT), (99, 9, 9)), rgb, 0
    return Image.fromarray(rgb).convert(mode), rgb, 3  # the conversion rounds


def plain_kinds() -> Iterator[Kind]:
    """Netpbm files of other largest values than 255, written byte by byte as the format says."""
    for largest, channels, binary in itertools.product((1, 15, 255, 1000, 65535), (1, 3), (True, False)):
        shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
        levels = np.random.default_rng(0).integers(0, largest + 1, shape)
        levels.flat[:2] = 0, largest
        number = {1: (2, 5), 3: (3, 6)}[channels][binary]
        header = f"P{number}\n{WIDTH} {HEIGHT}\n{largest}\n".encode()
        words = levels.astype(">u2" if largest > 255 else "u1").tobytes()
        body = words if binary else " ".join(map(str, levels.ravel())).encode() + b"\n"
        expected = np.rint(levels * (255 / largest)).astype(np.uint8)
        name = f"P{number}, largest value {largest}"
        yield Kind("by hand", name, ".pnm", header + body, expected, int(largest not in {1, 255}))
    levels = _levels(np.dtype("<f4"), 1)
    header = f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode()
    yield Kind("by hand", "Pf (PFM)", ".pnm", header + np.flipud(levels).tobytes(), shown(levels))
    yield Kind("by hand", "PF (PFM)", ".pnm", b"PF" + header[2:] + bytes(HEIGHT * WIDTH * 12), levels)
    pam = f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n".encode()
    yield Kind("by hand", "P7 (PAM)", ".pnm", pam + bytes(HEIGHT * WIDTH), levels)


def imageio_kinds() -> Iterator[Kind]:
    """Types and channels of imageio's writers."""
    suffixes, channels = (".png", ".tif", ".bmp", ".ppm", ".pgm", ".jp2", ".webp"), (1, 3, 4)
    for plugin, suffix, number, name in itertools.product(
        ("pillow", "opencv", "tifffile"), suffixes, channels, ("u1", "u2", "f4")
    ):
        if (name != "u1" and suffix in {".bmp", ".webp"}) or (name == "f4" and suffix != ".tif"):
            continue  # the writers change the pixels
        if plugin == "tifffile" and suffix != ".tif":
            continue
        levels = _levels(np.dtype(name), number)
        lossless = {"lossless": True, "exact": True} if (plugin, suffix) == ("pillow", ".webp") else {}
        try:
            data = imageio.imwrite("<bytes>", levels, extension=suffix, plugin=plugin, **lossless)
        except Exception:  # no such kind; the plugins raise any exception
            continue
        if suffix in {".jp2", ".webp"} and not lossless:
            continue  # lossy: noise has no right pixels
        colours, opacity = (levels[..., :3], levels[..., 3]) if number == 4 else (levels, None)
        # Pillow and Netpbm have no alpha in these files.
        kept = None if (plugin, suffix) == ("pillow", ".bmp") or suffix in {".ppm", ".pgm"} else opacity
        expected = MUST_BE_REFUSED if kept is not None and name == "f4" else shown(colours, kept)
        yield Kind(
            f"imageio ({plugin})", f"{suffix} {name} {number} channels", suffix, data or b"", expected, 1
        )


def all_kinds() -> Iterator[Kind]:
    """All kinds that are not DICOM."""
    return itertools.chain(tifffile_kinds(), stack_kinds(), pillow_kinds(), plain_kinds(), imageio_kinds())


def dicom_files() -> Iterator[Path]:
    """The files of pydicom's own test data that come with the package; other files are downloaded."""
    folder = Path(pydicom.__file__).parent / "data"
    others = {".py", ".pyc", ".json", ".txt", ".dump", ".md", ".icc"}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in others and path.name != "README":
            yield path


def dicom_outcome(path: Path) -> str:
    """As `outcome`, of a DICOM file against SimpleITK."""
    try:
        found = read_image(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if path.name in {"SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"}:  # SimpleITK mixes their bytes up
        same = _compared(found, read_image(path.with_name("SC_rgb_rle.dcm")), 0)
        return f"{same}, as SC_rgb_rle.dcm, which shows the same in 8 bits"
    try:
        expected = _read_by_simple_itk(path)
    except RuntimeError:
        return "read; SimpleITK does not read it"
    return _compared(found, expected, 1)  # rounding


def _read_by_simple_itk(path: Path) -> np.ndarray:
    import SimpleITK  # not needed by the project

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    rescaled = SimpleITK.GetArrayFromImage(reader.Execute())[0]
    if rescaled.ndim == 3:
        return shown(rescaled)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    levels = rescaled.astype(float)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    if inverted:  # GDCM has inverted the stored values; the window is that of those in the file
        slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
        levels = slope * (2**header.BitsStored - 1) + 2 * intercept - levels
    if header.get("WindowCenter") is not None:
        centre, width = (np.atleast_1d(header[n].value)[0] for n in ("WindowCenter", "WindowWidth"))
        levels = ((levels - (float(centre) - 0.5)) / (float(width) - 1) + 0.5).clip(0, 1)
    if rescaled.dtype == np.uint8 and header.BitsStored == 8:
        if header.get("WindowCenter") is None:
            return rescaled
        levels = np.rint(255 * levels).astype(np.uint8)
        return ~levels if inverted else levels
    return shown(-levels if inverted else levels)


def _tiff_table(results: list[tuple[Kind, str]]) -> Iterator[str]:
    rows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for kind, result in results:
        dtype, photometric, alpha = kind.name.split()[:3]
        rows.setdefault((photometric, alpha), {}).setdefault(dtype, []).append(result)
    yield "| photometric | alpha | read | read except in some layouts | refused |"
    yield "|---|---|---|---|---|"
    for (photometric, alpha), types in rows.items():
        cells: list[list[str]] = [[], [], []]
        for dtype, found in types.items():
            others = [r for r in found if r != "read" and "big-endian BigTIFF" not in r]
            cells[0 if not others else 2 if "read" not in found else 1].append(dtype)
        yield f"| {photometric} | {alpha} | {' | '.join(' '.join(c) for c in cells)} |"


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield "| file | result |"
    yield "|---|---|"
    yield from (f"| {name} | {result.replace('|', '/')} |" for name, result in rows)


def main() -> None:
    """Write the page; stop if any file is read to other pixels."""
    with tempfile.TemporaryDirectory() as folder:
        results = [(kind, outcome(kind, Path(folder))) for kind in all_kinds()]
    root = Path(pydicom.__file__).parent / "data"
    dicom = [(str(path.relative_to(root)), dicom_outcome(path)) for path in dicom_files()]
    wrong = [f"{kind.writer}: {kind.name}: {r}" for kind, r in results if r.startswith("wrong")]
    wrong += [f"{name}: {r}" for name, r in dicom if r.startswith("wrong")]
    if wrong:
        raise SystemExit("\n".join(wrong))
    tiff = [
        (k, r)
        for k, r in results
        if k.writer == "tifffile" and len(k.name.split()[0]) <= 4 and k.name.endswith(LAYOUTS)
    ]
    others = [(f"{k.writer}: {k.name}", r) for k, r in results if (k, r) not in tiff]
    packages = ("numpy", "opencv-python-headless", "pillow", "pydicom", "tifffile", "imageio", "SimpleITK")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    read = sum(r.startswith("read") for _, r in [*results, *dicom])
    introduction = INTRODUCTION.format(
        read=read, all=len(results) + len(dicom), date=date.today().isoformat(), versions=versions
    )
    lines = [introduction, *_tiff_table(tiff), "", "## Other image files", "", *_table(iter(others)), ""]
    lines += ["## Test files of pydicom", "", *_table(iter(dicom)), ""]
    write_text(PAGE, "\n".join(lines))


LAYOUTS = ("contig", "separate", "tiled", "zlib", "bigtiff", "predictor")

INTRODUCTION = """# Image formats

An image file is read to the pixels that a viewer shows, or it is refused with its kind and what to do.
The content of a file decides, not its name.

| format | read |
|---|---|
| PNG | all kinds; 16-bit files with a transparent colour and animations are refused |
| TIFF | the table below; reduced copies and masks beside the image are ignored; several images are refused |
| JPEG, JPEG 2000, WebP | 8 bits; JPEG 2000 also grey of up to 16 bits |
| BMP, GIF, PGM, PPM, PBM | all but run-length encoded BMP and animated GIF |
| DICOM | single frames; uncompressed, RLE, JPEG, JPEG 2000; others with the package that the error names |

* Transparent pixels are blended with black. A file that is entirely black then is refused.
* More than 8 bits, signed integers and floating point are scaled from the smallest to the largest value.
* Images of more than 89 million pixels are refused.

`python -m benchmarks.image_formats` writes each kind below, reads it, and compares the pixels; tests do
the same. Result of {date} ({versions}): {read} of {all} files are read to the right pixels, the others are
refused, none is read to other pixels.

## TIFF

Types are NumPy's: `u2` has 16 bits without a sign. Each is written in both byte orders, in strips and
tiles, with interleaved and separate colours, as BigTIFF, and compressed with and without a predictor.
Big-endian BigTIFF is refused.
"""

if __name__ == "__main__":
    main()
