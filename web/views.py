"""The page, and what its scripts ask for."""

import secrets
from pathlib import Path, PurePath

from django.apps import apps
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.http.response import content_disposition_header
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from lib.runtime.errors import UserError
from web.analysis_queue import delete
from web.downloads import DOWNLOADS, ChoiceForm, Measured, measured
from web.messages import script_messages
from web.models import Result
from web.problems import Refused, problem
from web.uploads import received


@require_safe
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    """The one page there is."""
    context = {
        "network": apps.get_app_config("web").network,
        "kept_minutes": settings.KEPT_SECONDS // 60,
        "max_megabytes": settings.MAX_UPLOAD_BYTES // 2**20,
        "max_megapixels": settings.MAX_PIXELS // 1_000_000,
        "for_scripts": {
            "results": reverse("results"),
            "maxBytes": settings.MAX_UPLOAD_BYTES,
            "messages": script_messages(),
        },
    }
    return render(request, "web/page.html", context)


class Results(View):
    """All images of a session."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """What became of them: the page asks while any is not done."""
        return JsonResponse({"results": [_described(result) for result in _own(request)]})

    def post(self, request: HttpRequest) -> HttpResponse:
        """An image, as the request's body; its file name as `name` in the address."""
        owner = request.session.setdefault("owner", secrets.token_urlsafe(24))
        return JsonResponse(_described(received(request, owner)), status=201)

    def delete(self, request: HttpRequest) -> HttpResponse:
        """Delete now, without waiting for the hour."""
        delete(_own(request))
        return HttpResponse(status=204)


class OneResult(View):
    """One image of a session."""

    def delete(self, request: HttpRequest, key: str) -> HttpResponse:
        """Delete now, whatever its state."""
        delete(_own(request).filter(pk=_found(request, key).pk))
        return HttpResponse(status=204)


@require_safe
def picture(request: HttpRequest, key: str) -> HttpResponse:
    """The image as it was analysed, PNG."""
    return _file(_done(request, key).picture_file, "image/png")


@require_safe
def probability(request: HttpRequest, key: str) -> HttpResponse:
    """float32, little endian, row by row; NaN outside the field of view.

    Not a picture: browsers may round what is read back from a canvas, and some add noise to it.
    """
    return _file(_done(request, key).probability_file, "application/octet-stream")


@require_safe
def measurement(request: HttpRequest, key: str) -> HttpResponse:
    """Columns of `measurements.csv` for the choice in the address."""
    return JsonResponse(_measured(request, key).measurement)


@require_safe
def download(request: HttpRequest, key: str, kind: str) -> HttpResponse:
    """A file for the choice in the address."""
    if kind not in DOWNLOADS:
        raise Refused(404, _("There is no such file."))
    of_choice = _measured(request, key)
    ending, content_type, content = DOWNLOADS[kind]
    name = f"{PurePath(of_choice.result.file_name).stem}{ending}"
    response = HttpResponse(content(of_choice), content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, name)
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400."""
    if isinstance(exception, DisallowedHost):
        return problem(request, 400, _("The server does not go by this name; see CNP_WEB_HOSTS."))
    return problem(request, 400, _("The request cannot be understood."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return problem(request, 404, _("There is no such page."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    return problem(request, 500, _("The server made a mistake; its log says which."))


def locked_out(request: HttpRequest, *_arguments: object) -> HttpResponse:
    """Too many wrong passwords."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    message = _("Too many attempts to log in; try again in {minutes} minutes.")
    return problem(request, 429, message.format(minutes=minutes))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The setting CSRF_FAILURE_VIEW."""
    return problem(request, 403, _("The page is out of date; reload it."))


def _own(request: HttpRequest) -> QuerySet:
    return Result.kept().filter(owner=request.session.get("owner", "-"))


def _found(request: HttpRequest, key: str) -> Result:
    result = _own(request).filter(key=key).first()
    if result is None:  # another session's is not told from one that never was
        raise _gone()
    return result


def _done(request: HttpRequest, key: str) -> Result:
    result = _found(request, key)
    if result.state != Result.State.DONE:
        raise Refused(404, _("This image is not analysed yet."))
    return result


def _measured(request: HttpRequest, key: str) -> Measured:
    result = _done(request, key)
    form = ChoiceForm(request.GET)
    if not form.is_valid():
        found = "; ".join(f"{field}: {' '.join(faults)}" for field, faults in form.errors.items())
        raise Refused(400, found.removeprefix("__all__: "))
    try:
        return measured(result, form.cleaned_data)
    except UserError as error:
        raise Refused(400, str(error)) from None


def _file(path: Path, content_type: str) -> HttpResponse:
    try:
        return FileResponse(path.open("rb"), content_type=content_type)
    except FileNotFoundError:  # deleted a moment ago
        raise _gone() from None


def _gone() -> Refused:
    return Refused(404, _("There is no such result; results are deleted after a while."))


def _described(result: Result) -> dict:
    """For the page's scripts."""
    described = {
        "key": result.key,
        "fileName": result.file_name,
        "state": result.state,
        "position": result.position,
        "message": _(result.message) if result.message else "",
        "deletedAt": result.deleted_at.isoformat(),
        "url": reverse("result", args=[result.key]),
    }
    if result.state == Result.State.DONE:
        described |= {
            "height": result.height,
            "width": result.width,
            "banner": result.provenance["banner"],
            "pixelSpacing": result.pixel_spacing_mm,
            "threshold": result.provenance["threshold"],
            "minAreaPx": result.provenance["min_area_px"],
        }
    return described
