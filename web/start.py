"""Preparation before serving: the tables of the database and the ONNX file of the network."""

from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from filelock import FileLock

from lib.configuration.experiment_folder import trained_experiments
from lib.networks.from_onnx import newest_export
from lib.networks.network_choice import SHIPPED_NETWORK, shipped_network
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


def migrate_database() -> None:
    """Create or update the tables; a lock makes processes that start together wait for each other."""
    with FileLock(settings.FOLDER / "starting"):
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
