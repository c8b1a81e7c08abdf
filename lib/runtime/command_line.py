"""What the scripts share: their options, and how an error reaches the user."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from lib.runtime.errors import UserError, is_out_of_memory
from lib.runtime.paths import DEFAULT_CONFIGURATION, PROJECT


def script_parser(description: str, *, default: str = "") -> argparse.ArgumentParser:
    """A parser with --config and --set, which every script takes.

    Args:
        description: what the script does.
        default: in words, where --config stays None unless it is given.
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
        help='lay one setting over the file, e.g. --set "training settings.N_epochs=10"; repeatable',
    )


def add_experiments_option(add_argument: Callable[..., object]) -> None:
    """Add --experiments by the `add_argument` of a parser, or of a group of options."""
    add_argument(
        "--experiments",
        nargs="+",
        default=[],
        metavar="NAME",
        help="the mean of the probabilities of these experiments' networks, "
        "e.g. those of the folds of a cross-validation",
    )


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever is done on Ctrl-C is done then too."""


def _terminate(signal_number: int, frame: object) -> None:
    raise Terminated


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; a user's mistake ends with one message and code 2, Ctrl-C with 130, SIGTERM with 143."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.stdout.reconfigure(errors="backslashreplace")  # any file name can be printed, as on stderr
    try:
        if not (3, 11) <= sys.version_info < (3, 14):
            raise UserError(
                f"this is Python {sys.version.split()[0]}; expected 3.11, 3.12 or 3.13: "
                "TensorFlow has no release for a newer one yet"
            )
        main()
    except UserError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        message = (
            f"the package {error.name} is missing: activate the environment "
            "(source .venv/bin/activate), or pip install -r requirements.txt"
        )
    except OSError as error:
        message = (
            f"{error.filename or 'a file'} can be neither read nor written: {error.strerror or error}; "
            "check the paths in [data paths] and path_experiments"
        )
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        print(f"\nstopped by {'SIGTERM' if terminated else 'Ctrl-C'}", file=sys.stderr)
        raise SystemExit(143 if terminated else 130) from None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        message = (
            "not enough memory; end other programs that use it (the GPU's too): smaller images, or a "
            "smaller batch, need less"
        )
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def next_command(script: str, arguments: argparse.Namespace) -> str:
    """How to call another script, from where the user stands, with the same configuration and settings."""
    parts = ["python", script if Path.cwd() == PROJECT else str(PROJECT / script)]
    if arguments.config != DEFAULT_CONFIGURATION:
        parts += ["--config", str(arguments.config)]
    for override in arguments.overrides:
        parts += ["--set", override]
    return shlex.join(parts)
