"""Image files opened safely: regular files alone, images of bounded size, errors that name the file."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from lib.runtime.errors import UserError

MAX_PIXELS = 89_478_485
"""Pillow's own default of what may still be an honest image; ten times a fundus camera's."""


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        UserError: no regular file, or not readable.
    """
    with named_faults(path), opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def opened(path: Path) -> BinaryIO:
    """A regular file that is not empty, open for reading.

    Raises:
        UserError: there is no such file; the caller adds its name (`named_faults`).
    """
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():  # a FIFO would be waited for without end
        raise UserError("is no regular file")
    if not path.stat().st_size:
        raise UserError("is empty (zero bytes)")
    return path.open("rb")


@contextmanager
def named_faults(source: Path | str) -> Iterator[None]:
    """Every fault, Pillow's warning of bombs too, becomes a `UserError` naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metadata, of no interest here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except Image.UnidentifiedImageError as error:
        kinds = "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF or DICOM"
        raise UserError(f"{source}: is no image that can be read; expected {kinds}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{source}: {too_large()}") from error
    except Exception as error:  # decoders raise nearly anything on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source}: cannot be read, damaged? ({reason})") from error


def too_large() -> str:
    """The message for an image of more than `MAX_PIXELS`."""
    return f"has more than {MAX_PIXELS / 1e6:.0f} million pixels; expected a smaller image"
