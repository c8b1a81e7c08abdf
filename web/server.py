"""gunicorn as run_web.py starts it: one process, which analyses, with threads that answer meanwhile."""

import os
import shlex
import socket
import sys
from multiprocessing import get_context
from pathlib import Path

import django
from django.conf import settings
from django.db import connections
from gunicorn.app.base import BaseApplication

from lib.networks.from_onnx import read_onnx_network
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


class Server(BaseApplication):
    """gunicorn with options from here instead of its command line."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> object:
        """Called by gunicorn in the process that serves."""
        from web.wsgi import application

        return application


def serve(host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: no network, a port that is taken, settings that must not be seen from the network.
    """
    django.setup()
    from web.start import make_tables, model_file

    make_tables()
    file = model_file(settings.MODEL)
    os.environ["CNP_WEB_MODEL"] = str(file)
    # A mistake in the file is one line here, in gunicorn's process many. Not in this process: onnxruntime
    # must not have run where gunicorn forks.
    with get_context("fork").Pool(1) as pool:
        print(f"network: {pool.apply(_described, [file])}, {file}")
    _check_port(host, port)
    if settings.ACCOUNTS_REQUIRED:
        _say_how_to_log_in()
    scheme = "https" if certificate else "http"
    called = socket.gethostname() if host in {"0.0.0.0", "::"} else _in_address(host)
    print(f"open {scheme}://{called}:{port}/ (Ctrl-C ends it)", flush=True)
    options = {
        "bind": f"{_in_address(host)}:{port}",
        "worker_class": "gthread",
        "threads": 8,
        "certfile": certificate and str(certificate),
        "keyfile": key and str(key),
        "graceful_timeout": 5,
        "control_socket_disable": True,
        "loglevel": "warning",
    }
    connections.close_all()  # SQLite's must not be carried into gunicorn's process
    Server({name: value for name, value in options.items() if value is not None}).run()


def _described(file: Path) -> str:
    network = read_onnx_network(file, engine=settings.ENGINE)
    return f"{network.name} ({network.architecture}), threshold {network.threshold:g}"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot serve at {host}:{port}: {reason}; try --port 8001") from None


def _say_how_to_log_in() -> None:
    from django.contrib.auth.models import User

    if not settings.TLS:
        print(
            "warning: passwords and angiograms cross the network unencrypted; give --certificate and "
            "--key, or put a proxy with TLS before it",
            file=sys.stderr,
        )
    print(f"called by the name {', '.join(settings.ALLOWED_HOSTS)}; other names: CNP_WEB_HOSTS")
    manage = shlex.quote(str(PROJECT / "web" / "manage.py"))
    accounts = User.objects.count()
    print(f"{accounts} accounts; make one: python {manage} createsuperuser")


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
