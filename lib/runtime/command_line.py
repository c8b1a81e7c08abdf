"""Options and error messages that the scripts share."""

from __future__ import annotations

import argparse
import datetime  # noqa: F401, imported by numpy's C code too, which turns Ctrl-C at that moment into an ImportError
import io
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lib.runtime.errors import UserError, is_out_of_memory
from lib.runtime.paths import DEFAULT_CONFIGURATION, PROJECT

WEB_PACKAGES = ("axes", "django", "gunicorn", "whitenoise")
REQUIREMENTS = {
    **dict.fromkeys(WEB_PACKAGES, "requirements/web.txt"),
    "ray": "requirements/cluster.txt",
    "highdicom": "requirements/dicom_output.txt",
}
"""The requirement list of each package that is not in requirements.txt."""


def script_parser(description: str, *, default: str = "") -> argparse.ArgumentParser:
    """Make a parser with --config and --set.

    `default` describes the default file, if the script chooses it; then --config is None by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config",
        type=Path,
        default=None if default else DEFAULT_CONFIGURATION,
        metavar="FILE",
        help=f"configuration file (default: {default or 'configuration.txt beside the scripts'})",
    )
    add_set_option(parser)
    return parser


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add --set to a parser."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar='"section.key=value"',
        help='change one setting of the file, e.g. --set "training settings.N_epochs=10"; repeatable',
    )


def add_experiments_option(add_argument: Callable[..., object]) -> None:
    """Add --experiments with the method `add_argument` of a parser or a group."""
    add_argument(
        "--experiments",
        nargs="+",
        default=[],
        metavar="NAME",
        help="average the probabilities of the networks of these experiments, "
        "e.g. of the folds of a cross-validation",
    )


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; a user's error ends with one message and code 2, Ctrl-C with 130, SIGTERM with 143."""
    sigterms: list[int] = []  # Ray replaces the exception by one of its own, so it cannot name the signal

    def terminate(signal_number: int, frame: object) -> None:
        sigterms.append(signal_number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # prints any file name, like stderr
    try:
        if not (3, 11) <= sys.version_info < (3, 14):
            why = ": TensorFlow has no release for a newer one yet" if sys.version_info >= (3, 14) else ""
            raise UserError(f"this is Python {sys.version.split()[0]}; expected 3.11, 3.12 or 3.13{why}")
        main()
    except UserError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        message = (
            f"the package {name} is missing: activate the environment "
            f"(source .venv/bin/activate), or pip install -r {REQUIREMENTS.get(name, 'requirements.txt')}"
        )
        if name == "keras" and "--model" not in sys.argv:
            message += "; an exported network needs no Keras: --model FILE.onnx"
    except OSError as error:
        message = (
            f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}; "
            "check the path and its permissions"
        )
    except KeyboardInterrupt:
        print(f"\nstopped by {'SIGTERM' if sigterms else 'Ctrl-C'}", file=sys.stderr)
        raise SystemExit(143 if sigterms else 130) from None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = (
            "not enough memory; end other programs that use memory or the GPU: smaller images or a "
            "smaller batch need less"
        )
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def next_command(script: str, arguments: argparse.Namespace) -> str:
    """The command line of another script, from the working directory, with the same configuration."""
    parts = ["python", script if Path.cwd() == PROJECT else str(PROJECT / script)]
    if arguments.config != DEFAULT_CONFIGURATION:
        parts += ["--config", str(arguments.config)]
    for override in arguments.overrides:
        parts += ["--set", override]
    return shlex.join(parts)
