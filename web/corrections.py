"""Corrections of a mask by hand: 0 unchanged, 1 added, 2 erased for each pixel."""

import contextlib
import shutil
import zlib

import numpy as np
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _

from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from web.models import Result
from web.problems import Refused
from web.uploads import too_many_bytes

ADDED, ERASED = 1, 2


def read_correction(result: Result) -> np.ndarray:
    """(H, W) uint8; zeros if the mask was not corrected."""
    shape = result.height, result.width
    try:
        return np.fromfile(result.correction_file, np.uint8).reshape(shape)
    except FileNotFoundError:
        return np.zeros(shape, np.uint8)


def corrected(mask: np.ndarray, correction: np.ndarray, field_of_view: np.ndarray) -> np.ndarray:
    """The mask, (H, W) bool, with the correction, (H, W) uint8, inside the field of view, (H, W) uint8."""
    return (mask | (correction == ADDED)) & (correction != ERASED) & (field_of_view > 0)


def receive_correction(request: HttpRequest, result: Result) -> None:
    """Store the correction in the request's body (zlib); one without any change removes the stored one.

    Raises:
        Refused: 400 if it is not one value of 0 to 2 for each pixel, 413 if it is too large, 503 if the disk
            is full.
    """
    correction = _checked(request.read(settings.MAX_CORRECTION_BYTES + 1), result)
    if not correction.any():
        result.correction_file.unlink(missing_ok=True)
        return
    if shutil.disk_usage(settings.FOLDER).free < settings.MIN_FREE_BYTES:
        raise Refused(503, _("The server is full; try again shortly."))
    try:
        with written_atomically(result.correction_file) as (file,):
            file.write_bytes(correction.tobytes())
    except UserError:
        raise Refused(503, _("The server is full; try again shortly.")) from None
    if not Result.objects.filter(pk=result.pk).exists():  # deleted in the meantime
        shutil.rmtree(result.folder, ignore_errors=True)


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
