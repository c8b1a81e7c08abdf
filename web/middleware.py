"""Checks of every request (size, account) and headers of every response."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _

from web.problems import RESULTS_PATH, Refused, is_from_script, problem
from web.uploads import too_many_bytes

GetResponse = Callable[[HttpRequest], HttpResponse]

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DRAINED_AT_MOST = 10
"""Multiple of the limit: a longer body is not read. A shorter one is read and dropped, because a browser
that is disconnected while it sends does not show the response."""


def response_headers(get_response: GetResponse) -> GetResponse:
    """Allow only our own scripts and styles in the page; keep angiograms out of caches."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        if request.path.startswith(settings.STATIC_URL):
            patch_cache_control(response, no_cache=True)  # browsers check for an update each time
        else:
            patch_cache_control(response, no_store=True, private=True)
        return response

    return respond


class Refusals:
    """Turns a `Refused` that a view raises into a response."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Called by Django."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Called by Django."""
        if isinstance(error, Refused):
            return problem(request, error.status, error.message)
        return None


def upload_size_limit(get_response: GetResponse) -> GetResponse:
    """Refuse a body by its Content-Length, before any of it is stored.

    The server reads no more than this length, so that a wrong header gains nothing.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        is_upload = request.path == RESULTS_PATH
        limit = settings.MAX_UPLOAD_BYTES if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if length <= limit:
            return get_response(request)
        if length <= _DRAINED_AT_MOST * settings.MAX_UPLOAD_BYTES:
            while request.read(2**16):
                pass
        return problem(request, 413, too_many_bytes())

    return respond


class AccountRequired(LoginRequiredMiddleware):
    """Require an account on the network; 127.0.0.1 needs none."""

    def __init__(self, get_response: GetResponse) -> None:
        if not settings.ACCOUNTS_REQUIRED:
            raise MiddlewareNotUsed
        super().__init__(get_response)

    def handle_no_permission(self, request: HttpRequest, view_func: GetResponse) -> HttpResponse:
        """Redirect to the log-in page; send a message to the page's scripts."""
        if is_from_script(request):
            return problem(request, 403, _("You are logged out; log in again."))
        return super().handle_no_permission(request, view_func)
