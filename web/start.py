"""Preparation before serving: the tables of the database and the ONNX file of the network."""

from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from filelock import FileLock

from lib.configuration.experiment_folder import trained_experiments
from lib.networks.from_onnx import newest_export
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


def migrate_database() -> None:
    """Create or update the tables; a lock makes processes that start together wait for each other."""
    with FileLock(settings.FOLDER / "starting"):
        call_command("migrate", verbosity=0)


def model_file(given: str) -> Path:
    """Return the ONNX file `given`, by default the newest export.

    Raises:
        UserError: there is no such file.
    """
    experiments = PROJECT / "experiments"
    file = Path(given) if given else newest_export(experiments)
    if file is None or not file.is_file():
        missing = f"{file}: no such file" if file else f"{experiments}: no ONNX file"
        raise UserError(
            f"{missing}; export the network of an experiment: python run_export.py NAME; "
            f"{trained_experiments(experiments)}"
        )
    return file
