"""Uploads: size and header are checked before any pixel is decoded."""

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

from lib.images.checked_files import has_dicom_signature
from lib.images.dicom import pixel_spacing_mm
from lib.images.info_banner import banner_to_cut
from lib.images.png import write_png
from lib.images.reading import PILLOW_FORMATS, read_image
from lib.runtime.errors import UserError
from web.analysis_queue import QueueFullError, check_room, enqueue, without_path
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
        check_room()
        with NamedTemporaryFile(dir=settings.UPLOAD_FOLDER) as stream:
            while block := request.read(2**16):
                stream.write(block)
            stream.flush()
            result = Result(owner=owner, file_name=form.cleaned_data["name"])
            _decode(Path(stream.name), result)
        try:
            enqueue(result)
        except QueueFullError:
            shutil.rmtree(result.folder)
            raise
    except QueueFullError:
        raise Refused(503, _("The server is full; try again shortly.")) from None
    return result


def too_many_bytes() -> str:
    """Message, in the user's language, for a file that is too large."""
    megabytes = settings.MAX_UPLOAD_BYTES // 2**20
    return _("The file is too large; the limit is %(limit)s MB.") % {"limit": megabytes}


def check_header(file: Path) -> None:
    """Check format and size from the header; no pixel is decoded.

    Raises:
        Refused: 400 if the file is empty or its format unknown, 413 if it has too many pixels.
    """
    if not file.stat().st_size:
        raise Refused(400, _("The file is empty."))
    try:
        height, width = _dicom_size(file) if is_dicom(file) else _image_size(file)
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise Refused(413, too_many_pixels()) from None
    except Exception:  # a damaged header can raise nearly any exception
        kinds = "PNG, JPEG, TIFF, BMP, PGM/PPM, GIF, DICOM"
        message = _("This is not an image that can be read; expected: %(kinds)s.")
        raise Refused(400, message % {"kinds": kinds}) from None
    if height * width > settings.MAX_PIXELS:
        raise Refused(413, too_many_pixels())


def is_dicom(file: Path) -> bool:
    """Whether the file has the DICOM signature."""
    with file.open("rb") as stream:
        return has_dicom_signature(stream)


def too_many_pixels() -> str:
    """Message, in the user's language, for an image that is too large."""
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


def _decode(file: Path, result: Result) -> None:
    """Decode the file into the result's folder; set the result's size and pixel spacing."""
    check_header(file)
    result.is_dicom = is_dicom(file)
    with apps.get_app_config("web").decoding:
        try:
            picture = read_image(file)
            spacing = pixel_spacing_mm(file)
            banner_to_cut(picture, file, "auto")  # refuses burned-in text; the header is not kept
        except UserError as error:
            reason = without_path(error, file)
            raise Refused(400, _("The image %(reason)s.") % {"reason": reason}) from None
        write_png(result.upload_file, picture)
    result.height, result.width = picture.shape[:2]
    result.row_spacing_mm, result.column_spacing_mm = spacing or (None, None)
