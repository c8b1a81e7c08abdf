"""The queue: one thread of each process analyses the images in order and deletes expired results."""

import atexit
import contextlib
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
from axes.models import AccessAttempt
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from lib.images.png import write_png
from lib.networks.from_onnx import read_onnx_network
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.certainty.disagreement import uncertainty
from lib.prediction.certainty.review_order import expected_gain
from lib.prediction.image_file import Prediction, predict_file
from lib.prediction.measurements_table import provenance
from lib.runtime.errors import UserError
from web.models import Result
from web.start import check_one_network, migrate_database, model_file, starting_lock

INTERRUPTED = gettext_noop("The analysis was interrupted; send the image again.")
FAILED = gettext_noop("The analysis failed; see the server's log.")

SECONDS_BETWEEN_POLLS = 2
"""Interval at which the queue is read; other processes add images to it."""
SECONDS_BETWEEN_CLEANINGS = 60

ENDING_SECONDS = 3
"""How long the end of the server waits for the current analysis."""

WARM_UP_SIZE = (768, 768)
"""Size of most fundus cameras' angiograms in pixels."""

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """The queue is full, or, with a text for the user, the number of stored results or the disk."""


class AnalysisThread(threading.Thread):
    """Analyses one image at a time until the process ends or `ending` is set."""

    def __init__(self) -> None:
        super().__init__(name="analysis", daemon=True)
        self.ending = threading.Event()

    def run(self) -> None:
        """Analyse and clean up in a loop; a failure does not stop it."""
        web = apps.get_app_config("web")
        # The first prediction allocates memory and takes twice as long as later ones; no user should wait
        # for this. An error here occurs again, and is reported, in the first analysis.
        with contextlib.suppress(Exception):
            web.decoder.start()
            channels = len(web.network.preprocessing.channels)
            web.network.predict(np.zeros((1, *WARM_UP_SIZE, channels), np.float32))
        cleaned = -float("inf")
        while not self.ending.is_set():
            web.uploaded.clear()
            try:
                if time.monotonic() - cleaned > SECONDS_BETWEEN_CLEANINGS:
                    delete_expired()
                    cleaned = time.monotonic()
                waiting = analyse_next(web.network)
            except Exception:
                _log.exception("the queue cannot be processed")
                waiting = False
            connection.close()  # an open one can delay the deletion of the images when the server ends
            if not waiting:
                web.uploaded.wait(SECONDS_BETWEEN_POLLS)


def start_analysis() -> None:
    """Delete what an ended server left, read the network and start the analysis thread.

    Raises:
        UserError: there is no ONNX file, it cannot be read, or another network serves the folder.
    """
    migrate_database()
    web = apps.get_app_config("web")
    web.network = read_onnx_network(model_file(settings.MODEL), engine=settings.ENGINE)
    with starting_lock():
        delete_all_if_unused()
        check_one_network(web.network, web.serving)
        web.serving.acquire()
    fail_interrupted()
    web.analysis = AnalysisThread()
    web.analysis.start()
    atexit.register(stop_analysis)


def stop_analysis() -> None:
    """End the analysis thread, and delete all images if no other process serves them; may be called twice."""
    web = apps.get_app_config("web")
    if web.analysis:
        web.analysis.ending.set()
        web.uploaded.set()
        web.analysis.join(ENDING_SECONDS)
        web.analysis = None
    web.decoder.end()
    web.serving.release()
    with starting_lock():
        delete_all_if_unused()


def delete_all_if_unused() -> None:
    """Delete the images and results of all sessions, unless a process serves them."""
    with apps.get_app_config("web").serving.alone() as alone:
        if alone:
            delete(Result.objects.all())
            for folder in (settings.RESULTS_FOLDER, settings.UPLOAD_FOLDER):
                for left in folder.iterdir():
                    _remove(left)


def check_room() -> None:
    """Raise QueueFullError if the server cannot accept another image."""
    free = shutil.disk_usage(settings.FOLDER).free
    if Result.objects.count() >= settings.MAX_RESULTS or free < settings.MIN_FREE_BYTES:
        raise QueueFullError(_("The server has no room for another image; ask the person who runs it."))
    if Result.kept().filter(state=Result.State.WAITING).count() >= settings.MAX_WAITING:
        raise QueueFullError


def enqueue(result: Result) -> None:
    """Add an image to the end of the queue; its `upload_file` must exist.

    Raises:
        QueueFullError: the server cannot accept another image.
    """
    with transaction.atomic():
        check_room()
        result.save()
    apps.get_app_config("web").uploaded.set()


def analyse_next(network: TrainedNetwork) -> bool:
    """Analyse the image that has waited longest; return False if none waits."""
    result = _next()
    if result is None:
        return False
    try:
        prediction = predict_file(network, result.upload_file)
        _save(result, prediction, network)
    except UserError as error:
        reason = without_path(error, result.upload_file)
        if reason.startswith(f"{model_file(settings.MODEL)}: "):  # not a fault of the image
            _log.error("the analysis failed: %s", reason)
            reason = FAILED
        _fail(result, reason)
    except Exception:
        _log.exception("the analysis failed")
        _fail(result, FAILED)
    result.upload_file.unlink(missing_ok=True)
    if not Result.objects.filter(pk=result.pk).exists():  # deleted during the analysis
        shutil.rmtree(result.folder, ignore_errors=True)
    return True


def without_path(error: UserError, file: Path) -> str:
    """The message of an error without the file's path on the server."""
    return str(error).removeprefix(f"{file}: ")[:300]


def delete(results: QuerySet) -> None:
    """Delete results and their folders for good."""
    for result in results:
        Result.objects.filter(pk=result.pk).delete()
        shutil.rmtree(result.folder, ignore_errors=True)
    empty_write_ahead_log()


def empty_write_ahead_log() -> None:
    """Remove deleted rows from the file beside the database too; `secure_delete` overwrites them in it.

    If another connection reads just now, this does nothing; the analysis thread repeats it.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def delete_expired() -> None:
    """Delete expired results and sessions, and old files that killed processes left."""
    delete(Result.objects.filter(uploaded__lte=Result.oldest_kept()))
    too_old = Result.oldest_kept().timestamp()
    for left in (*settings.RESULTS_FOLDER.iterdir(), *settings.UPLOAD_FOLDER.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another process deleted it
            if left.stat().st_mtime < too_old:
                _remove(left)
    SessionStore.clear_expired()
    AccessAttempt.objects.filter(attempt_time__lt=timezone.now() - settings.AXES_COOLOFF_TIME).delete()
    empty_write_ahead_log()


def _remove(left: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process deleted it
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def delete_results_at_logout(request: HttpRequest, **_: object) -> None:
    """Receiver of Django's signal `user_logged_out`."""
    owner = request.session.get("owner", "")
    request.session.delete()  # first, so that an upload that is stored later finds the session ended
    delete(Result.objects.filter(owner=owner))


def fail_interrupted() -> None:
    """Mark analyses of ended processes as failed; call this before the analysis thread starts."""
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


def _save(result: Result, prediction: Prediction, network: TrainedNetwork) -> None:
    write_png(result.picture_file, prediction.original)
    inside = prediction.field_of_view > 0
    probability = np.where(inside, prediction.probability, np.float32(np.nan)).astype("<f4")
    result.probability_file.write_bytes(probability.tobytes())
    if prediction.disagreement is not None:
        result.disagreement_file.write_bytes(prediction.disagreement.astype("<f4").tobytes())
    share = network.share_column
    uncertain = uncertainty(
        prediction.probability,
        prediction.disagreement,
        prediction.field_of_view,
        network.threshold,
        network.min_area_px,
        share,
    )
    values: dict[str, object] = {"label": network.label, "provenance": provenance(network, prediction)}
    values["expected_gain"] = expected_gain(uncertain, share)
    if prediction.pixel_spacing_mm:  # the network's setting overrides the DICOM file's
        values["row_spacing_mm"], values["column_spacing_mm"] = prediction.pixel_spacing_mm
    _update(result, state=Result.State.DONE, **values)


def _fail(result: Result, message: str) -> None:
    shutil.rmtree(result.folder, ignore_errors=True)
    _update(result, state=Result.State.FAILED, message=message)


def _update(result: Result, **changes: object) -> None:
    """Change the row if it still exists."""
    Result.objects.filter(pk=result.pk).update(**changes)
