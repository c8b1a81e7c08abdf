"""Django's secret key: created once, stored in a private file, refused if it is weak."""

import contextlib
import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

from lib.runtime.errors import UserError

_LEAST_LENGTH, _LEAST_CHARACTERS = 50, 5
"""As in Django's own check, security.W009."""


def kept_secret_key(folder: Path) -> str:
    """Return the key in `folder`; create it at the first use, readable only by the server's user.

    Raises:
        UserError: other users can read the file.
    """
    file = folder / "secret_key"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
        temporary = folder / f".secret_key-{os.getpid()}"
        temporary.touch(0o600)
        temporary.write_text(get_random_secret_key() + get_random_secret_key(), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(temporary, file)
        temporary.unlink()
    if file.stat().st_mode & 0o077:
        raise UserError(f"{file}: other users can read it; delete it (the next start creates a new one)")
    return file.read_text(encoding="ascii")


def checked_secret_key(key: str, *, debug: bool) -> None:
    """Refuse settings that are unsafe on the network.

    Raises:
        UserError: DEBUG is on; or the key is short, has few different characters, or is Django's example.
    """
    if debug:
        raise UserError("CNP_WEB_DEBUG=yes shows source code and settings; use it only on 127.0.0.1")
    weak = len(key) < _LEAST_LENGTH or len(set(key)) < _LEAST_CHARACTERS
    if weak or key.startswith("django-insecure-"):
        raise UserError(
            "CNP_WEB_SECRET_KEY is an example or too short; remove it (the server creates a key), "
            f"or give {_LEAST_LENGTH} random characters"
        )
