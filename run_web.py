"""Serve the web page: on this computer without accounts, or on the network with accounts."""

import argparse
import os
from pathlib import Path

from lib.runtime.command_line import run_script
from lib.runtime.errors import UserError


def main() -> None:
    """Check the options, then serve until Ctrl-C."""
    arguments = _arguments()
    is_local = arguments.host in {"127.0.0.1", "localhost", "::1"}
    has_tls = arguments.certificate is not None
    if has_tls != (arguments.key is not None):
        raise UserError("--certificate needs --key and --key needs --certificate: give both")
    for file in filter(None, (arguments.certificate, arguments.key)):
        if not file.is_file():
            raise UserError(f"{file}: no such file; expected a certificate or key in PEM")
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "web.settings",
        "CNP_WEB_ACCESS": "local" if is_local else "network",
        "CNP_WEB_TLS": "yes" if has_tls else os.environ.get("CNP_WEB_TLS", "no"),
    }
    if arguments.engine:
        os.environ["CNP_WEB_ENGINE"] = arguments.engine
    if arguments.model:
        os.environ["CNP_WEB_MODEL"] = str(arguments.model.resolve())
    # A missing package must be reported by run_script.
    from web.server import serve

    serve(arguments.host, arguments.port, arguments.certificate, arguments.key)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, metavar="FILE.onnx", help="network (default: that of the repository)")
    add("--engine", choices=("onnx", "openvino"), help="default: onnx, by onnxruntime")
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, without accounts")
    add("--port", type=int, default=8000, help="default: 8000")
    add("--certificate", type=Path, metavar="FILE.pem", help="certificate for https")
    add("--key", type=Path, metavar="FILE.pem", help="private key of the certificate")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
