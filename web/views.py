"""Views: the page and the requests of its scripts."""

import secrets
from pathlib import Path, PurePath

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import DisallowedHost
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.http.response import content_disposition_header
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from lib.images.reading import image_name
from lib.networks.trained_network import is_non_perfusion
from lib.prediction.certainty.disagreement import disagreement_picture
from lib.prediction.measurements_table import DIFFERENCES, QUALITY
from lib.runtime.errors import UserError
from web.analysis_queue import delete
from web.corrections import etag, receive_correction, stored_correction
from web.downloads import DOWNLOADS, ChoiceForm, MeasuredResult, measure_result
from web.lib_messages import translated
from web.messages import script_messages
from web.models import Result
from web.problems import Refused, problem
from web.uploads import receive_upload


@require_safe
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """The page itself."""
    _owner(request)  # set it before the first uploads: two at the same time would get two owners
    network = apps.get_app_config("web").network
    context = {
        "network": network,
        "threshold_source": translated(network.threshold_source),
        "is_non_perfusion": is_non_perfusion(network.structure),
        "kept_minutes": settings.KEPT_SECONDS // 60,
        "max_megabytes": settings.MAX_UPLOAD_BYTES // 2**20,
        "max_megapixels": settings.MAX_PIXELS // 1_000_000,
        "for_scripts": {
            "results": reverse("results"),
            "maxBytes": settings.MAX_UPLOAD_BYTES,
            "shareColumn": network.share_column,
            "messages": script_messages(network.structure),
        },
    }
    return render(request, "web/page.html", context)


class Results(View):
    """Requests about all images of a session."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """List the images; the page repeats this until all are analysed."""
        return JsonResponse({"results": [_described(result) for result in _own(request)]})

    def post(self, request: HttpRequest) -> HttpResponse:
        """Upload an image: the request's body; `name` in the URL is its file name."""
        result = receive_upload(request, _owner(request))
        if _has_ended(request.session):  # log-out deleted only the images that had arrived
            delete(Result.objects.filter(pk=result.pk))
            raise Refused(403, _("You are logged out; log in again."))
        request.session.modified = True  # the session ends after the images that it owns
        return JsonResponse(_described(result), status=201)

    def delete(self, request: HttpRequest) -> HttpResponse:
        """Delete all images before they expire."""
        delete(_own(request))
        return HttpResponse(status=204)


class OneResult(View):
    """Requests about one image of a session."""

    def delete(self, request: HttpRequest, key: str) -> HttpResponse:
        """Delete the image in any state."""
        delete(_own(request).filter(pk=_found(request, key).pk))
        return HttpResponse(status=204)


@require_safe
def picture(request: HttpRequest, key: str) -> HttpResponse:
    """The analysed image as PNG."""
    return _file(_done(request, key).picture_file, "image/png")


@require_safe
def probability(request: HttpRequest, key: str) -> HttpResponse:
    """Probabilities as little-endian float32, row by row; NaN outside the field of view.

    No PNG, because a browser may round or change pixels that a script reads from a canvas.
    """
    return _file(_done(request, key).probability_file, "application/octet-stream")


@require_safe
def disagreement(request: HttpRequest, key: str) -> HttpResponse:
    """Grey levels of the disagreement of the views, one byte for each pixel, row by row."""
    found = _done(request, key).disagreement()
    if found is None:
        raise Refused(404, _("There is no such file."))
    return HttpResponse(disagreement_picture(found).tobytes(), content_type="application/octet-stream")


class Correction(View):
    """The correction of a mask by hand; `web.corrections` has its values."""

    def get(self, request: HttpRequest, key: str) -> HttpResponse:
        """One byte for each pixel, row by row."""
        result = _done(request, key)
        stored = stored_correction(result)
        pixels = stored or bytes(result.height * result.width)
        headers = {"ETag": etag(stored)}
        return HttpResponse(pixels, content_type="application/octet-stream", headers=headers)

    def put(self, request: HttpRequest, key: str) -> HttpResponse:
        """Store a correction; If-Match has the ETag of the correction that it replaces."""
        return HttpResponse(status=204, headers={"ETag": receive_correction(request, _done(request, key))})


@require_safe
def measurement(request: HttpRequest, key: str) -> HttpResponse:
    """Columns of `measurements.csv` for the settings in the URL."""
    return JsonResponse(_measure(request, key).measurement)


@require_safe
def download(request: HttpRequest, key: str, kind: str) -> HttpResponse:
    """A file to download for the settings in the URL."""
    if kind not in DOWNLOADS:
        raise Refused(404, _("There is no such file."))
    measured = _measure(request, key)
    suffix, content_type, content = DOWNLOADS[kind]
    name = f"{image_name(PurePath(measured.result.file_name))}{suffix}"
    try:
        data = content(measured)
    except (FileNotFoundError, UserError):  # deleted a moment ago
        raise _gone() from None
    response = HttpResponse(data, content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, name)
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler for status 400."""
    if isinstance(exception, DisallowedHost):
        return problem(request, 400, _("The server does not accept this host name; see CNP_WEB_HOSTS."))
    return problem(request, 400, _("The request cannot be understood."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler for status 404."""
    return problem(request, 404, _("There is no such page."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler for status 500."""
    return problem(request, 500, _("An error occurred on the server; see its log."))


def locked_out(request: HttpRequest, *_arguments: object) -> HttpResponse:
    """Response of django-axes to too many wrong passwords."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    message = _("Too many attempts to log in; try again in {minutes} minutes.")
    return problem(request, 429, message.format(minutes=minutes))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Response to a request without a valid CSRF token."""
    return problem(request, 403, _("The page is out of date; reload it."))


def _owner(request: HttpRequest) -> str:
    """Identifier of the session; a new one if it has none, for example because the session expired."""
    return request.session.setdefault("owner", secrets.token_urlsafe(24))


def _has_ended(session: SessionBase) -> bool:
    """Whether the session was deleted during the request; a new session has no key until the response."""
    return session.session_key is not None and not session.exists(session.session_key)


def _own(request: HttpRequest) -> QuerySet:
    return Result.kept().filter(owner=request.session.get("owner", "-"))


def _found(request: HttpRequest, key: str) -> Result:
    result = _own(request).filter(key=key).first()
    if result is None:  # also for a key of another session
        raise _gone()
    return result


def _done(request: HttpRequest, key: str) -> Result:
    result = _found(request, key)
    if result.state != Result.State.DONE:
        raise Refused(404, _("This image is not analysed yet."))
    return result


def _measure(request: HttpRequest, key: str) -> MeasuredResult:
    result = _done(request, key)
    form = ChoiceForm(request.GET)
    if not form.is_valid():
        faults = form.non_field_errors() + [f"{f.label}: {' '.join(f.errors)}" for f in form if f.errors]
        raise Refused(400, "; ".join(faults))
    try:
        return measure_result(result, form.cleaned_data)
    except FileNotFoundError:  # deleted a moment ago
        raise _gone() from None
    except UserError as error:
        raise Refused(400, translated(str(error))) from None


def _file(path: Path, content_type: str) -> HttpResponse:
    try:
        return FileResponse(path.open("rb"), content_type=content_type)
    except FileNotFoundError:  # deleted a moment ago
        raise _gone() from None


def _gone() -> Refused:
    return Refused(404, _("There is no such result; results are deleted after a while."))


def _described(result: Result) -> dict:
    """The JSON object that the page's scripts receive."""
    described = {
        "key": result.key,
        "fileName": result.file_name,
        "state": result.state,
        "position": result.position,
        "message": translated(_(result.message)) if result.message else "",
        "secondsLeft": (result.deleted_at - timezone.now()).total_seconds(),
        "url": reverse("result", args=[result.key]),
    }
    if result.state == Result.State.DONE:
        correction = stored_correction(result)
        described |= {
            "height": result.height,
            "width": result.width,
            "hasDisagreement": result.disagreement_file.exists(),
            "expectedGain": result.expected_gain,
            "isCorrected": correction != b"",
            "correctionETag": etag(correction),
            "banner": translated(result.provenance["banner"]),
            "doubts": "; ".join(_doubts(result.provenance)),
            "pixelSpacing": result.pixel_spacing_mm,
            "threshold": result.provenance["threshold"],
            "minAreaPx": result.provenance["min_area_px"],
        }
    return described


def _doubts(provenance: dict) -> list[str]:
    """Why the result is less reliable: faults of the image, and differences from the training."""
    faults = {
        "dark": _("the image is dark"),
        "overexposed": _("the image is overexposed"),
        "blurred": _("the image is blurred"),
        "small gradable part": _("a part of the image is too dark or too bright"),
    }
    found = [faults[name] for name in provenance[QUALITY].split("; ") if name in faults]
    return found + [translated(text) for text in provenance[DIFFERENCES].split("; ") if text]
