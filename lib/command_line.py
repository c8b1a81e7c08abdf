"""What the scripts share: their options, and how an error reaches the user."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from lib.user_errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
DEFAULT_CONFIGURATION = PROJECT / "configuration.txt"


def script_parser(description: str) -> argparse.ArgumentParser:
    """A parser with --config and --set, which every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIGURATION,
        metavar="FILE",
        help="configuration file (default: configuration.txt beside the scripts)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar='"section.key=value"',
        help='lay one setting over the file, e.g. --set "training settings.N_epochs=10"; repeatable',
    )
    return parser


def run_script(main: Callable[[], None]) -> None:
    """Run `main`; a user's mistake ends with one message and exit code 2, Ctrl-C with 130."""
    try:
        main()
    except UserError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        message = (
            f"the package {error.name} is missing: activate the environment "
            "(source .venv/bin/activate), or pip install -r requirements.txt"
        )
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror or error}"
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def command(script: str, arguments: argparse.Namespace) -> str:
    """How to call another script with the same configuration and settings."""
    parts = ["python", script]
    if arguments.config != DEFAULT_CONFIGURATION:
        parts += ["--config", str(arguments.config)]
    for override in arguments.overrides:
        parts += ["--set", override]
    return shlex.join(parts)
