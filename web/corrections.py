"""Corrections of a mask by hand: 0 unchanged, 1 added, 2 erased for each pixel."""

import contextlib
import hashlib
import shutil
import zlib

import numpy as np
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from web.models import Result
from web.problems import Refused
from web.uploads import too_many_bytes

ADDED, ERASED = 1, 2


def stored_correction(result: Result) -> bytes:
    """One byte for each pixel, row by row; empty if the mask was not corrected."""
    try:
        return result.correction_file.read_bytes()
    except FileNotFoundError:
        return b""


def etag(stored: bytes) -> str:
    """The header ETag of a stored correction, by which a tab notices a correction of another tab."""
    return f'"{hashlib.sha256(stored).hexdigest()}"'


def read_correction(result: Result, expected: str = "") -> np.ndarray:
    """(H, W) uint8; zeros if the mask was not corrected.

    Raises:
        Refused: 412 if the ETag `expected` is given and is not that of the stored correction.
    """
    stored = stored_correction(result)
    if expected and expected != etag(stored):
        raise _corrected_in_another_tab()
    pixels = stored or bytes(result.height * result.width)
    return np.frombuffer(pixels, np.uint8).reshape(result.height, result.width)


def corrected(mask: np.ndarray, correction: np.ndarray, field_of_view: np.ndarray) -> np.ndarray:
    """The mask, (H, W) bool, with the correction, (H, W) uint8, inside the field of view, (H, W) uint8."""
    return (mask | (correction == ADDED)) & (correction != ERASED) & (field_of_view > 0)


def receive_correction(request: HttpRequest, result: Result) -> str:
    """Store the correction in the request's body (zlib) and return its ETag.

    A correction without any change removes the stored one. The header If-Match has the ETag of the correction
    that is replaced.

    Raises:
        Refused: 400 if it is not one value of 0 to 2 for each pixel, 412 if the stored correction is another
            than that of If-Match, 413 if it is too large, 503 if the disk is full.
    """
    correction = _checked(request.read(settings.MAX_CORRECTION_BYTES + 1), result)
    content = correction.tobytes() if correction.any() else b""
    with transaction.atomic():  # requests that correct wait here for each other
        stored = stored_correction(result)
        if content != stored:  # equal if the answer to the same request was lost
            if request.headers.get("If-Match") != etag(stored):
                raise _corrected_in_another_tab()
            _store(content, result)
    return etag(content)


def _store(content: bytes, result: Result) -> None:
    if not content:
        result.correction_file.unlink(missing_ok=True)
        return
    if shutil.disk_usage(settings.FOLDER).free < settings.MIN_FREE_BYTES:
        raise Refused(503, _("The server is full; try again shortly."))
    try:
        with written_atomically(result.correction_file) as (file,):
            file.write_bytes(content)
    except UserError:
        raise Refused(503, _("The server is full; try again shortly.")) from None
    if not Result.objects.filter(pk=result.pk).exists():  # deleted in the meantime
        shutil.rmtree(result.folder, ignore_errors=True)


def _corrected_in_another_tab() -> Refused:
    return Refused(412, _("The outline was corrected in another tab; reload the page."))


def _checked(body: bytes, result: Result) -> np.ndarray:
    if len(body) > settings.MAX_CORRECTION_BYTES:  # without Content-Length
        raise Refused(413, too_many_bytes(settings.MAX_CORRECTION_BYTES))
    pixels = result.height * result.width
    content, unpacked = b"", zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        content = unpacked.decompress(body, pixels + 1)  # no more: it may expand to a thousand times its size
    correction = np.frombuffer(content, np.uint8)
    if len(correction) != pixels or correction.max() > ERASED:
        raise Refused(400, _("The correction does not fit the image; reload the page."))
    return correction
