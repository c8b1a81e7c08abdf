"""Refusals that can be read: JSON for the page's own requests, else a page."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

RESULTS_PATH = "/results/"


class Refused(Exception):
    """Raised by a view; answered with `status`, an HTTP status from 400, and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def is_for_a_program(request: HttpRequest) -> bool:
    """Whether the answer goes to the page's scripts, not to a reader."""
    return request.path.startswith(RESULTS_PATH)


def problem(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """An answer that says what is wrong."""
    if is_for_a_program(request):
        response = JsonResponse({"message": message}, status=status)
    else:
        response = render(request, "web/problem.html", {"message": message}, status=status)
    if status == 503:
        response["Retry-After"] = "5"
    return response
