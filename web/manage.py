"""Run Django's commands for the web page, e.g. createsuperuser, changepassword, check --deploy."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command that is given on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    # A missing package must be reported by run_script.
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    # Python puts web/ first in the search path, where web/models.py would hide the package models.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from lib.runtime.command_line import run_script

    run_script(main)
