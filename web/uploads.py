"""Uploads: size and header are checked before any pixel is decoded."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from django import forms
from django.apps import apps
from django.conf import settings
from django.core.validators import RegexValidator
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lib.configuration.banner import Banner
from web.analysis_queue import QueueFullError, check_room, enqueue
from web.decoding import DEFLATED, EMPTY, NO_IMAGE, NO_ROOM, TOO_COSTLY, TOO_MANY_PIXELS
from web.lib_messages import translated
from web.models import Result
from web.problems import Refused

_plain_name = RegexValidator(
    r"^(?!\.+$)[^/\\\x00-\x1f\x7f]+$", gettext_lazy("The file name must be a plain name, without folders.")
)


class UploadForm(forms.Form):
    """Name of the uploaded file."""

    name = forms.CharField(max_length=200, validators=[_plain_name])


def receive_upload(request: HttpRequest, owner: str) -> Result:
    """Check the image in the request's body, store its pixels and add it to the queue.

    The uploaded file, whose header may identify the patient, is deleted at the end of the request.

    Raises:
        Refused: 400 if it is not an image, 413 if it is too large, 503 if the server is full.
    """
    form = UploadForm(request.GET)
    if not form.is_valid():
        raise Refused(400, " ".join(form.errors["name"]))
    try:
        with _upload_slot():
            return _received(request, owner, form.cleaned_data["name"])
    except QueueFullError as error:
        raise Refused(503, str(error) or _("The server is full; try again shortly.")) from None


@contextlib.contextmanager
def _upload_slot() -> Iterator[None]:
    """Hold one of the places for uploads; without waiting, so that threads are left for the page."""
    slots = apps.get_app_config("web").upload_slots
    if not slots.acquire(blocking=False):
        raise QueueFullError
    try:
        yield
    finally:
        slots.release()


def _received(request: HttpRequest, owner: str, name: str) -> Result:
    check_room()
    with NamedTemporaryFile(dir=settings.UPLOAD_FOLDER) as stream:
        while block := request.read(2**16):
            stream.write(block)
        stream.flush()
        result = Result(owner=owner, file_name=name)
        _decode(Path(stream.name), result)
    try:
        enqueue(result)
    except QueueFullError:
        shutil.rmtree(result.folder)
        raise
    return result


def too_many_bytes(limit: int) -> str:
    """Message, in the user's language, for a body of more bytes than `limit`."""
    return _("The file is too large; the limit is %(limit)s MB.") % {"limit": f"{limit / 2**20:g}"}


def too_many_pixels() -> str:
    """Message, in the user's language, for an image that is too large."""
    limit = settings.MAX_PIXELS // 1_000_000
    return _("The image has too many pixels; the limit is %(limit)s million.") % {"limit": limit}


def _decode(file: Path, result: Result) -> None:
    """Decode the file into the result's folder; set the result's size and pixel spacing.

    Raises:
        Refused: 400 if the file is no image or costs too much time or memory, 413 if it has too many pixels.
    """
    web = apps.get_app_config("web")
    banner = web.network.info_banner
    found = web.decoder.decode(
        file,
        result.upload_file,
        settings.MAX_PIXELS,
        settings.MAX_DECODING_SECONDS,
        banner.setting if isinstance(banner, Banner) else banner or "none",
    )
    if found.get("refused") == NO_ROOM:
        raise QueueFullError
    if "height" not in found:
        shutil.rmtree(result.folder, ignore_errors=True)
        raise _refused(found)
    result.height, result.width, result.is_dicom = found["height"], found["width"], found["is_dicom"]
    result.row_spacing_mm, result.column_spacing_mm = found["spacing"] or (None, None)


def _refused(found: dict) -> Refused:
    if "unreadable" in found:
        return Refused(400, _("The image %(reason)s.") % {"reason": translated(found["unreadable"])[:300]})
    if found["refused"] == TOO_MANY_PIXELS:
        return Refused(413, too_many_pixels())
    kinds = {"kinds": "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF, WebP, JPEG 2000, DICOM"}
    messages = {
        EMPTY: _("The file is empty."),
        DEFLATED: _("This DICOM file is deflated; export it uncompressed."),
        NO_IMAGE: _("This is not an image that can be read; expected: %(kinds)s.") % kinds,
        TOO_COSTLY: _("The image takes too long to read; save it as PNG."),
    }
    return Refused(400, messages[found["refused"]])
