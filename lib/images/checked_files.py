"""Open image files safely: regular files only, images of limited size, errors that name the file."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from PIL import Image

from lib.runtime.errors import UserError

MAX_PIXELS = 89_478_485
"""Pillow's own limit for the size of an image; ten times the size of a fundus photograph."""

TOO_LARGE = f"has more than {MAX_PIXELS / 1e6:.0f} million pixels; expected a smaller image"


ONE_FRAME = "export the one to be used as a single image"
"""What to do with a file of several images."""


def file_sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal.

    Raises:
        UserError: not a regular file, or not readable.
    """
    with errors_naming(path), open_regular_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_regular_file(path: Path) -> BufferedReader:
    """Open a regular file that is not empty for reading.

    Raises:
        UserError: there is no such file; `errors_naming` adds its name.
    """
    if not path.exists():
        raise UserError("no such file")
    if not path.is_file():  # reading a FIFO would block forever
        raise UserError("is not a regular file")
    if not path.stat().st_size:
        raise UserError("is empty (zero bytes)")
    return path.open("rb")


@contextmanager
def errors_naming(source: Path | str) -> Iterator[None]:
    """Turn every exception, and Pillow's warning of decompression bombs, into a `UserError` with the name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they concern metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except Image.UnidentifiedImageError as error:
        kinds = "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF, WebP, JPEG 2000 or DICOM"
        raise UserError(f"{source}: is not an image that can be read; expected {kinds}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{source}: {TOO_LARGE}") from error
    except Exception as error:  # decoders raise nearly any exception on a damaged file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{source}: cannot be read, damaged? ({reason})") from error


def dicom_functions(path: Path) -> ModuleType | None:
    """The module `lib.images.formats.dicom` if a file is a DICOM file, by its content, else None."""
    with path.open("rb") as stream:
        if not has_dicom_signature(stream):
            return None
    from lib.images.formats import dicom  # pydicom takes 0.15 s to import

    return dicom


def has_dicom_signature(stream: BinaryIO) -> bool:
    """Whether the four bytes at offset 128 are "DICM"; the stream is at its beginning before and after."""
    found = stream.read(132)[128:] == b"DICM"
    stream.seek(0)
    return found
