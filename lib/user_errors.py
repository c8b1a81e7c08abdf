"""Errors for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that its maker can mend: bad file, bad setting, missing truth.

    The message says which file or key, what was found, what was expected and what to do. The scripts
    print it without a traceback and end with exit code 2.
    """


def raise_all(faults: Iterable[str], heading: str) -> None:
    """Raise one `UserError` that lists every fault; do nothing if there is none."""
    listed = [fault.replace("\n", "\n    ") for fault in faults]
    if len(listed) == 1:
        raise UserError(f"{heading}: {listed[0]}")
    if listed:
        raise UserError("\n".join([f"{heading} ({len(listed)}):", *(f"  - {f}" for f in listed)]))
