"""Checks of every request (size, account) and headers of every response."""

import contextlib
import time
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
_DROPPED_AT_MOST = 10
"""Multiple of the limit of an upload: no more of a body is read and dropped."""

_DROPPING_SECONDS = 60
"""No longer than this."""


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


def drop_unread_body(get_response: GetResponse) -> GetResponse:
    """Read and drop the rest of a body before the response is sent, if the user is logged in.

    A browser that is disconnected while it sends does not show the response; and the server would wait for
    the rest in the thread that accepts all connections. Nothing is read from strangers.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if _may_send(request):
            _drop_body(request)
        return response

    return respond


def _may_send(request: HttpRequest) -> bool:
    if not settings.ACCOUNTS_REQUIRED:
        return True
    user = getattr(request, "user", None)  # absent if an earlier middleware has refused the request
    return user is not None and user.is_authenticated


def _drop_body(request: HttpRequest) -> None:
    left, until = _DROPPED_AT_MOST * settings.MAX_UPLOAD_BYTES, time.monotonic() + _DROPPING_SECONDS
    with contextlib.suppress(OSError):  # the client has disconnected
        while left > 0 and time.monotonic() < until and (block := request.read(2**16)):
            left -= len(block)


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
        limit = _most_bytes(request.path)
        if length > limit:
            return problem(request, 413, too_many_bytes(limit))
        return get_response(request)

    return respond


def _most_bytes(path: str) -> int:
    if path == RESULTS_PATH:
        return settings.MAX_UPLOAD_BYTES
    if path.startswith(RESULTS_PATH) and path.endswith("/correction"):
        return settings.MAX_CORRECTION_BYTES
    return settings.DATA_UPLOAD_MAX_MEMORY_SIZE


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
