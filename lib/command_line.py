"""What the scripts share: their options, and how an error reaches the user."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lib.configuration import DEFAULT_CONFIGURATION
from lib.user_errors import UserError


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
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None
