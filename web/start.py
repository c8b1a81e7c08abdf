"""What a process does before it serves: tables, network, the thread that analyses."""

import fcntl
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import call_command

from lib.networks.from_onnx import newest_export, read_onnx_network
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from web.analysis_queue import AnalysisThread, give_up_interrupted


def start() -> None:
    """Make or update the database, read the network, begin to analyse what waits.

    Raises:
        UserError: there is no network, or it cannot be read.
    """
    make_tables()
    apps.get_app_config("web").network = read_onnx_network(
        model_file(settings.MODEL), engine=settings.ENGINE
    )
    give_up_interrupted()
    AnalysisThread().start()


def make_tables() -> None:
    """Make or update the database; processes that start together take turns."""
    with (settings.FOLDER / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        call_command("migrate", verbosity=0)


def model_file(given: str) -> Path:
    """The ONNX file that was asked for, else the newest.

    Raises:
        UserError: there is none.
    """
    file = Path(given) if given else newest_export(PROJECT / "experiments")
    if file is None or not file.is_file():
        missing = f"{file}: no such file" if file else f"{PROJECT / 'experiments'}: no ONNX file"
        raise UserError(f"{missing}; make one of an experiment: python run_export.py NAME")
    return file
