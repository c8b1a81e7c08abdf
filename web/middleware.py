"""What holds for every request: size, account, headers of the answer."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _

from web.problems import RESULTS_PATH, Refused, is_for_a_program, problem
from web.uploads import too_many_bytes

Answer = Callable[[HttpRequest], HttpResponse]

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DRAINED_AT_MOST = 10
"""Times the limit: a body up to there is read and dropped, for a browser that is cut off while
sending never shows the answer."""


def response_headers(get_response: Answer) -> Answer:
    """Nothing from elsewhere runs in the page; no angiogram stays in a cache."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        if request.path.startswith(settings.STATIC_URL):
            patch_cache_control(response, no_cache=True)  # asked for again after an update
        else:
            patch_cache_control(response, no_store=True, private=True)
        return response

    return answer


class Refusals:
    """Answers what a view refuses by raising."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Called by Django."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Called by Django."""
        if isinstance(error, Refused):
            return problem(request, error.status, error.message)
        return None


def upload_size_limit(get_response: Answer) -> Answer:
    """Refuse a body by the length that its header states, before any of it is kept.

    The server reads no further than the stated length, so it cannot be understated.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        is_upload = request.path == RESULTS_PATH
        limit = settings.MAX_UPLOAD_BYTES if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if length <= limit:
            return get_response(request)
        if length <= _DRAINED_AT_MOST * settings.MAX_UPLOAD_BYTES:
            while request.read(2**16):
                pass
        return problem(request, 413, too_many_bytes())

    return answer


class AccountRequired(LoginRequiredMiddleware):
    """On the network nothing is shown without an account; on 127.0.0.1 none is needed."""

    def __init__(self, get_response: Answer) -> None:
        if not settings.ACCOUNTS_REQUIRED:
            raise MiddlewareNotUsed
        super().__init__(get_response)

    def handle_no_permission(self, request: HttpRequest, view_func: Answer) -> HttpResponse:
        """The log-in page; a message for the page's scripts."""
        if is_for_a_program(request):
            return problem(request, 403, _("You are logged out; log in again."))
        return super().handle_no_permission(request, view_func)
