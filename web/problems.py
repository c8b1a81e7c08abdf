"""Error responses: JSON for requests of the page's scripts, a page for a person."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

RESULTS_PATH = "/results/"


class Refused(Exception):
    """Raised by a view; the response has `status` (HTTP, from 400) and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def is_from_script(request: HttpRequest) -> bool:
    """Whether a script of the page sent the request."""
    return request.path.startswith(RESULTS_PATH)


def problem(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """A response with a message about the error."""
    if is_from_script(request):
        response = JsonResponse({"message": message}, status=status)
    else:
        response = render(request, "web/problem.html", {"message": message}, status=status)
    if status == 503:
        response["Retry-After"] = "5"
    return response
