"""Errors for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that its maker can mend: bad file, bad setting, missing truth.

    The message says which file or key, what was found, what was expected and what to do. The scripts
    print it without a traceback and end with exit code 2.
    """


# TensorFlow and JAX; torch, XLA; cuBLAS; onnxruntime; numpy: none need be imported to be understood.
_OUT_OF_MEMORY = (
    "resourceexhausted",
    "resource_exhausted",
    "out of memory",
    "resource allocation failed",
    "failed to allocate memory",
    "bad allocation",
    "std::bad_alloc",
    "memoryerror",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception, of whatever backend, says that there was no memory, be it a GPU's."""
    said = f"{type(error).__name__}: {error}".lower()
    return not isinstance(error, UserError) and any(words in said for words in _OUT_OF_MEMORY)


def raise_all(faults: Iterable[str], heading: str) -> None:
    """Raise one `UserError` that lists every fault; do nothing if there is none."""
    listed = [fault.replace("\n", "\n    ") for fault in faults]
    if len(listed) == 1:
        raise UserError(f"{heading}: {listed[0]}")
    if listed:
        raise UserError("\n".join([f"{heading} ({len(listed)}):", *(f"  - {f}" for f in listed)]))
