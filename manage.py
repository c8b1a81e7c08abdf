"""Django's commands for the web page, e.g. createsuperuser, changepassword, check --deploy."""

import os
import sys

from lib.runtime.command_line import run_script


def main() -> None:
    """Run the command that follows on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    run_script(main)
