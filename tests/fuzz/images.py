"""Fuzz target: images become uint8 arrays, or an error names the file; reading.py itself raises only UserError."""

import gzip
import traceback
from io import BytesIO
from pathlib import Path

import numpy as np

from tests.fuzz.target import fuzz, instrumented

with instrumented():
    from PIL import Image
    from pydicom import examples

    from lib.images.formats.dicom import has_burned_in_annotation, pixel_spacing_mm
    from lib.images.reading import read_image, read_mask
    from lib.runtime.errors import UserError

    Image.init()  # import all formats now, so that they are instrumented

READERS = (read_image, read_mask, pixel_spacing_mm, has_burned_in_annotation)


def read(file: Path) -> None:
    packed = file.read_bytes()[:2] == b"\x1f\x8b"
    file = file.rename(file.with_suffix(".gz" if packed else ".img"))
    for reader in READERS:
        try:
            found = reader(file)
        except UserError as error:
            assert str(error).startswith(str(file)) and "\n" not in str(error), error
            where = traceback.extract_tb(error.__cause__.__traceback__)[-1] if error.__cause__ else None
            in_reading = where and where.filename.endswith("lib/images/reading.py")
            assert not in_reading or isinstance(error.__cause__, UserError), error.__cause__
        else:
            assert not isinstance(found, np.ndarray) or found.dtype == np.uint8


def seeds() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(256, size=(9, 7, 4), dtype=np.uint8)
    pictures = [Image.fromarray(pixels[..., :channels]) for channels in (3, 4)]
    pictures.append(Image.fromarray(pixels[..., 0]))
    pictures += [pictures[-1].convert(mode) for mode in ("1", "P", "I", "F", "CMYK")]
    pictures.append(Image.fromarray(pixels.view(np.uint16)[..., 0]))
    found = []
    for picture in pictures:
        for kind in ("PNG", "JPEG", "TIFF", "BMP", "PPM", "GIF"):
            stream = BytesIO()
            try:
                picture.save(stream, kind)
            except (OSError, ValueError):  # not every format supports every mode
                continue
            found.append(stream.getvalue())
    for name in ("ct", "mr", "palette_color", "rgb_color", "ybr_color"):
        found.append(Path(examples.get_path(name)).read_bytes())
    return [*(f for f in found if len(f) <= 65536), gzip.compress(found[0])]


if __name__ == "__main__":
    fuzz(read, seeds())
