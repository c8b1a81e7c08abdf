"""What is let in: an upload is judged by its size and header before a pixel of it is decoded."""

import shutil
from pathlib import Path
from tempfile import NamedTemporaryFile

from django import forms
from django.apps import apps
from django.conf import settings
from django.core.validators import RegexValidator
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from PIL import Image
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lib.images.dicom import has_dicom_signature, pixel_spacing_mm
from lib.images.png import write_png
from lib.images.reading import PILLOW_FORMATS, read_image
from lib.runtime.errors import UserError
from web.analysis_queue import QueueFullError, check_room, enqueue, without_path
from web.models import Result
from web.problems import Refused


class UploadForm(forms.Form):
    """What the page says of a file."""

    name = forms.CharField(
        max_length=200,
        validators=[
            RegexValidator(
                r"^(?!\.+$)[^/\\\x00-\x1f\x7f]+$",
                gettext_lazy("The file name must be a plain name, without folders."),
            )
        ],
    )


def received(request: HttpRequest, owner: str) -> Result:
    """Check the image in the request's body, keep its pixels and put it into the queue.

    The file itself, with whatever its header says of the patient, is gone at the end of the request.

    Raises:
        Refused: 400 for what is no image, 413 for what is too large, 503 where there is no room.
    """
    form = UploadForm(request.GET)
    if not form.is_valid():
        raise Refused(400, " ".join(form.errors["name"]))
    try:
        check_room()
        with NamedTemporaryFile(dir=settings.UPLOAD_FOLDER) as stream:
            while block := request.read(2**16):
                stream.write(block)
            stream.flush()
            result = _decoded(
                Path(stream.name), Result(owner=owner, file_name=form.cleaned_data["name"])
            )
        try:
            enqueue(result)
        except QueueFullError:
            shutil.rmtree(result.folder)
            raise
    except QueueFullError:
        raise Refused(503, _("The server is full; try again shortly.")) from None
    return result


def too_many_bytes() -> str:
    """In the user's language."""
    megabytes = settings.MAX_UPLOAD_BYTES // 2**20
    return _("The file is too large; the limit is %(limit)s MB.") % {"limit": megabytes}


def check_header(file: Path) -> None:
    """Refuse by what the file says of itself; no pixel is decoded.

    Raises:
        Refused: 400 for an empty file or an unknown format, 413 for too many pixels.
    """
    if not file.stat().st_size:
        raise Refused(400, _("The file is empty."))
    try:
        height, width = _dicom_size(file) if is_dicom(file) else _image_size(file)
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise Refused(413, too_many_pixels()) from None
    except Exception:  # parsers raise nearly anything on a damaged header
        kinds = "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF, DICOM"
        message = _("This is not an image that can be read; expected: %(kinds)s.")
        raise Refused(400, message % {"kinds": kinds}) from None
    if height * width > settings.MAX_PIXELS:
        raise Refused(413, too_many_pixels())


def is_dicom(file: Path) -> bool:
    """Whether the file has the signature of DICOM."""
    with file.open("rb") as stream:
        return has_dicom_signature(stream)


def too_many_pixels() -> str:
    """In the user's language."""
    limit = settings.MAX_PIXELS // 1_000_000
    return _("The image has too many pixels; the limit is %(limit)s million.") % {"limit": limit}


def _image_size(file: Path) -> tuple[int, int]:
    with Image.open(file, formats=PILLOW_FORMATS) as image:
        return image.height, image.width


def _dicom_size(file: Path) -> tuple[int, int]:
    if read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise Refused(400, _("This DICOM file is deflated; export it uncompressed."))
    dataset = dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return dataset.Rows, dataset.Columns


def _decoded(file: Path, result: Result) -> Result:
    """The result with its size and, in its folder, the pixels of the file."""
    check_header(file)
    result.is_dicom = is_dicom(file)
    with apps.get_app_config("web").decoding:
        try:
            picture = read_image(file)
            spacing = pixel_spacing_mm(file)
        except UserError as error:
            reason = without_path(error, file)
            raise Refused(400, _("The image %(reason)s.") % {"reason": reason}) from None
        write_png(result.upload_file, picture)
    result.height, result.width = picture.shape[:2]
    result.row_spacing_mm, result.column_spacing_mm = spacing or (None, None)
    return result
