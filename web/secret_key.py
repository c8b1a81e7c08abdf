"""Django's secret key: made once, kept in a private file, refused where it is weak."""

import contextlib
import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

from lib.runtime.errors import UserError

_LEAST_LENGTH, _LEAST_CHARACTERS = 50, 5
"""As in Django's own check, security.W009."""


def kept_secret_key(folder: Path) -> str:
    """The key in `folder`, which is made on first use; only the user who runs the server can read it."""
    file = folder / "secret_key"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
        beside = folder / f".secret_key-{os.getpid()}"
        beside.touch(0o600)
        beside.write_text(get_random_secret_key() + get_random_secret_key(), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(beside, file)
        beside.unlink()
    if file.stat().st_mode & 0o077:
        raise UserError(f"{file}: others can read it; delete it (a new one is made)")
    return file.read_text(encoding="ascii")


def checked_secret_key(key: str, *, debug: bool) -> None:
    """Refuse what must not be seen from the network.

    Raises:
        UserError: DEBUG is on, or the key is an example's, short or monotonous.
    """
    if debug:
        raise UserError("CNP_WEB_DEBUG=yes shows the program's insides: only on 127.0.0.1")
    weak = len(key) < _LEAST_LENGTH or len(set(key)) < _LEAST_CHARACTERS
    if weak or key.startswith("django-insecure-"):
        raise UserError(
            "CNP_WEB_SECRET_KEY is a default or too short; leave it out (a key is made), "
            f"or give {_LEAST_LENGTH} random characters"
        )
