"""Preparation before serving: the tables of the database, the ONNX file, and one network for one folder."""

import json
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from filelock import FileLock

from lib.configuration.experiment_folder import trained_experiments
from lib.networks.from_onnx import newest_export
from lib.networks.network_choice import SHIPPED_NETWORK, shipped_network
from lib.networks.trained_network import TrainedNetwork
from lib.prediction.folder import settings_sha256
from lib.runtime.atomic_files import read_json, write_text
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from web.shared_lock import SharedLock


def starting_lock() -> FileLock:
    """A lock that makes processes of one folder that start or end together wait for each other."""
    return FileLock(settings.FOLDER / "starting")


def migrate_database() -> None:
    """Create or update the tables."""
    with starting_lock():
        call_command("migrate", verbosity=0)


def model_file(given: str) -> Path:
    """Return the ONNX file `given`, by default the shipped network or, if there is none, the newest export.

    Raises:
        UserError: there is no such file, or the shipped network is damaged.
    """
    experiments = PROJECT / "experiments"
    file = Path(given) if given else shipped_network() or newest_export(experiments)
    if file is None or not file.is_file():
        nothing = f"there is neither {SHIPPED_NETWORK} nor an ONNX file in {experiments}"
        missing = f"{file}: no such file" if file else nothing
        raise UserError(
            f"{missing}; export the network of an experiment: python run_export.py NAME; "
            f"{trained_experiments(experiments)}"
        )
    return file


def check_one_network(network: TrainedNetwork, serving: SharedLock) -> None:
    """Keep in the folder which network serves it; if a process serves it already, compare.

    All processes that serve a folder take images from one queue, so that each must give the same results. The
    caller holds the `starting_lock`.

    Raises:
        UserError: a process serves the folder with another network.
    """
    own = {"settings_sha256": settings_sha256(network, None)}
    file = settings.FOLDER / "serving_network.json"
    with serving.alone() as alone:
        if alone:
            write_text(file, json.dumps(own))
    if read_json(file, "stop the server that uses this folder") != own:
        raise UserError(
            f"another network, or the same with other settings, serves {settings.FOLDER}; stop that server, "
            "or set CNP_WEB_FOLDER to another folder for this one"
        )
