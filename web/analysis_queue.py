"""The queue: images wait their turn, one thread a process analyses them, old ones are deleted."""

import contextlib
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_noop

from lib.archive import provenance
from lib.images.png import write_png
from lib.networks.trained_network import TrainedNetwork
from lib.prediction import Prediction, predict_file
from lib.runtime.errors import UserError
from web.models import Result

INTERRUPTED = gettext_noop("The analysis was interrupted; send the image again.")
FAILED = gettext_noop("The analysis failed; the server's log says why.")

SECONDS_BETWEEN_LOOKS = 2
"""At the queue, where other processes put images, too."""
SECONDS_BETWEEN_CLEANINGS = 60

SIZE_AT_START = (768, 768)
"""Of most fundus cameras' angiograms, in pixels."""

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """No more images can wait, or be kept."""


class AnalysisThread(threading.Thread):
    """Analyses one image at a time, until the process ends or `ending` is set."""

    def __init__(self) -> None:
        super().__init__(name="analysis", daemon=True)
        self.ending = threading.Event()

    def run(self) -> None:
        """Whatever became of one image, the next has its turn."""
        web = apps.get_app_config("web")
        # The first prediction takes memory, and so twice as long as all later ones: not a user's. What
        # may go wrong, the first image's analysis will say.
        with contextlib.suppress(Exception):
            web.network.predict(np.zeros((1, *SIZE_AT_START, 1), np.float32))
        cleaned = -float("inf")
        while not self.ending.is_set():
            web.uploaded.clear()
            try:
                if time.monotonic() - cleaned > SECONDS_BETWEEN_CLEANINGS:
                    delete_expired()
                    cleaned = time.monotonic()
                while analyse_next(web.network):
                    pass
            except Exception:
                _log.exception("the queue cannot be worked on")
            connection.close()
            web.uploaded.wait(SECONDS_BETWEEN_LOOKS)


def check_room() -> None:
    """Raises QueueFullError where another image could not wait or be kept."""
    waiting = Result.kept().filter(state=Result.State.WAITING).count()
    if (
        waiting >= settings.MAX_WAITING
        or Result.objects.count() >= settings.MAX_RESULTS
        or shutil.disk_usage(settings.FOLDER).free < settings.MIN_FREE_BYTES
    ):
        raise QueueFullError


def enqueue(result: Result) -> None:
    """Put an image, whose `upload_file` is there, at the end of the queue.

    Raises:
        QueueFullError: there is no room.
    """
    with transaction.atomic():
        check_room()
        result.save()
    apps.get_app_config("web").uploaded.set()


def analyse_next(network: TrainedNetwork) -> bool:
    """Analyse the image that has waited longest; False if none waits."""
    result = _next()
    if result is None:
        return False
    try:
        prediction = predict_file(network, result.upload_file)
        _keep(result, prediction, network)
    except UserError as error:
        _fail(result, without_path(error, result.upload_file))
    except Exception:
        _log.exception("the analysis failed")
        _fail(result, FAILED)
    result.upload_file.unlink(missing_ok=True)
    if not Result.objects.filter(pk=result.pk).exists():  # deleted meanwhile
        shutil.rmtree(result.folder, ignore_errors=True)
    return True


def without_path(error: UserError, file: Path) -> str:
    """A message of lib without this machine's name for the file."""
    return str(error).removeprefix(f"{file}: ")[:300]


def delete(results: QuerySet) -> None:
    """Delete results with all that lies on the disk."""
    for result in results:
        Result.objects.filter(pk=result.pk).delete()
        shutil.rmtree(result.folder, ignore_errors=True)


def delete_expired() -> None:
    """Delete results, and what killed processes left, after `KEPT_SECONDS`; ended sessions, too."""
    delete(Result.objects.filter(uploaded__lte=Result.oldest_kept()))
    too_old = Result.oldest_kept().timestamp()
    for left in (*settings.RESULTS_FOLDER.iterdir(), *settings.UPLOAD_FOLDER.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another was first
            if left.stat().st_mtime < too_old:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    SessionStore.clear_expired()


def delete_results_at_logout(request: HttpRequest, **_: object) -> None:
    """Receives Django's signal: the next person at the computer finds nothing."""
    delete(Result.objects.filter(owner=request.session.get("owner", "")))


def give_up_interrupted() -> None:
    """Mark as failed what a process analysed that is no more; call before this one analyses."""
    for result in Result.objects.filter(state=Result.State.RUNNING):
        if result.process == os.getpid() or not _is_alive(result.process):
            result.upload_file.unlink(missing_ok=True)
            _fail(result, INTERRUPTED)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _next() -> Result | None:
    with transaction.atomic():
        result = Result.kept().filter(state=Result.State.WAITING).first()
        if result:
            result.state, result.process = Result.State.RUNNING, os.getpid()
            result.save(update_fields=["state", "process"])
    return result


def _keep(result: Result, prediction: Prediction, network: TrainedNetwork) -> None:
    write_png(result.picture_file, prediction.original)
    inside = prediction.field_of_view > 0
    probability = np.where(inside, prediction.probability, np.float32(np.nan)).astype("<f4")
    result.probability_file.write_bytes(probability.tobytes())
    found = {"label": network.label, "provenance": provenance(network, prediction)}
    if prediction.pixel_spacing_mm:  # of the network's settings, which go before DICOM's
        found["row_spacing_mm"], found["column_spacing_mm"] = prediction.pixel_spacing_mm
    _update(result, state=Result.State.DONE, **found)


def _fail(result: Result, message: str) -> None:
    shutil.rmtree(result.folder, ignore_errors=True)
    _update(result, state=Result.State.FAILED, message=message)


def _update(result: Result, **changes: object) -> None:
    """Change the row, unless it was deleted meanwhile."""
    Result.objects.filter(pk=result.pk).update(**changes)
