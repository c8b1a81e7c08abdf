"""Serve the web page on this computer, or with accounts on the network."""

import argparse
import os
from pathlib import Path

from lib.runtime.command_line import run_script
from lib.runtime.errors import UserError


def main() -> None:
    """Read the options, look at the network, serve until Ctrl-C."""
    arguments = _arguments()
    is_local = arguments.host in {"127.0.0.1", "localhost", "::1"}
    has_tls = arguments.certificate is not None
    if has_tls != (arguments.key is not None):
        raise UserError("--certificate and --key belong together: give both")
    for file in filter(None, (arguments.certificate, arguments.key)):
        if not file.is_file():
            raise UserError(f"{file}: no such file; expected a certificate or key in PEM")
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "web.settings",
        "CNP_WEB_ACCESS": "local" if is_local else "network",
        "CNP_WEB_TLS": "yes" if has_tls else "no",
    }
    if arguments.engine:
        os.environ["CNP_WEB_ENGINE"] = arguments.engine
    if arguments.model:
        os.environ["CNP_WEB_MODEL"] = str(arguments.model.resolve())
    from web.server import serve

    serve(arguments.host, arguments.port, arguments.certificate, arguments.key)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, metavar="FILE.onnx", help="default: the newest export"
    )
    parser.add_argument(
        "--engine", choices=("onnx", "openvino"), help="default: onnx, that is onnxruntime"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, no accounts needed"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--certificate", type=Path, metavar="FILE.pem", help="for https")
    parser.add_argument("--key", type=Path, metavar="FILE.pem", help="of the certificate")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
