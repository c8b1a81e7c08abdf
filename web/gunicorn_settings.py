"""Settings of gunicorn: for `gunicorn --config web/gunicorn_settings.py web.wsgi`, and for run_web.py."""

import os
import sys
from pathlib import Path
from types import ModuleType

import django

if (project := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, project)  # gunicorn reads this file before it adds the folder

worker_class = "web.worker.UploadWorker"
threads = 32
"""More than the uploads that one process accepts at a time (`settings.UPLOADS_AT_ONCE`)."""
timeout = 60
graceful_timeout = 15
"""Seconds until a worker that has not ended is killed and its images are deleted; on a loaded machine the end
took more than 5."""
control_socket_disable = True
loglevel = "warning"


def worker_exit(server: object, worker: object) -> None:
    """End the analysis and delete all images if no other process serves; called in the process that ends.

    The process ends here: onnxruntime, which may still compute, aborts a process that ends normally.
    """
    try:
        _analysis_queue().stop_analysis()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def on_exit(server: object) -> None:
    """Delete the images of workers that were killed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    django.setup()
    _analysis_queue().delete_all_if_unused()


def _analysis_queue() -> ModuleType:
    from web import analysis_queue  # needs Django's applications

    return analysis_queue
