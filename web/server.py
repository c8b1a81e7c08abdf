"""The gunicorn server of run_web.py: one process with an analysis thread and several request threads."""

import os
import shlex
import signal
import socket
import sys
from multiprocessing import active_children, get_context
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections
from gunicorn.app.base import BaseApplication

from lib.networks.from_onnx import read_onnx_network
from lib.networks.network_choice import SHIPPED_NETWORK, described_shipped_network
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from web import gunicorn_settings
from web.start import check_one_network, migrate_database, model_file, starting_lock


class Server(BaseApplication):
    """gunicorn with options from Python instead of its command line."""

    def __init__(self, options: dict[str, object]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        for name, value in (vars(gunicorn_settings) | self.options).items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> object:
        """Called by gunicorn in the process that serves."""
        # This import starts the analysis thread, which only the serving process must have.
        from web.wsgi import application

        return application


def serve(host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serve until Ctrl-C.

    Raises:
        UserError: there is no ONNX file, another network serves the folder, the port is in use, or a setting
            is unsafe on the network.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_at_once)
    django.setup()
    migrate_database()
    file = model_file(settings.MODEL)
    if file == SHIPPED_NETWORK:
        print(described_shipped_network())
    os.environ["CNP_WEB_MODEL"] = str(file)
    # Read the file before gunicorn starts, so that a fault is reported in one line. Read it in another
    # process, because gunicorn cannot fork safely after onnxruntime has started threads.
    with get_context("fork").Pool(1, _end_quietly) as pool:
        print(f"network: {pool.apply(_described, [file])}, {file}")
        pool.close()
        pool.join()  # without it, the process is terminated and may print a traceback
    _check_port(host, port)
    if settings.ACCOUNTS_REQUIRED:
        _print_accounts()
    scheme = "https" if certificate else "http"
    name = socket.gethostname() if host in {"0.0.0.0", "::"} else _in_address(host)
    print(f"open {scheme}://{name}:{port}/ (Ctrl-C stops the server)", flush=True)
    options = {
        "bind": f"{_in_address(host)}:{port}",
        "certfile": certificate and str(certificate),
        "keyfile": key and str(key),
    }
    connections.close_all()  # a SQLite connection must not be used after a fork
    Server({name: value for name, value in options.items() if value is not None}).run()


def _stop_at_once(number: int, frame: object) -> None:
    """End the process before gunicorn has replaced this handler; SQLite turns exceptions into other ones."""
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    for child in active_children():
        child.kill()
    os.write(2, f"\nstopped by {name}\n".encode())
    os._exit(128 + number)


def _described(file: Path) -> str:
    network = read_onnx_network(file, engine=settings.ENGINE)
    with starting_lock():
        check_one_network(network, apps.get_app_config("web").serving)
    return f"{network.name} ({network.architecture}), threshold {network.threshold:g}"


def _end_quietly() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot serve at {host}:{port}: {reason}; try --port 8001") from None


def _print_accounts() -> None:
    if not settings.TLS:
        print(
            "warning: passwords and angiograms are sent unencrypted; give --certificate and --key, or use "
            "a proxy with TLS",
            file=sys.stderr,
        )
    print(f"host names: {', '.join(settings.ALLOWED_HOSTS)}; to allow others, set CNP_WEB_HOSTS")
    manage = shlex.quote(str(PROJECT / "web" / "manage.py"))
    accounts = get_user_model().objects.count()
    print(f"accounts: {accounts}; to create one: python {manage} createsuperuser")


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
