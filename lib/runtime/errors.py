"""Errors whose message is for the user."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can correct: bad file, bad setting, missing truth.

    The message names the file or key, what was found, what was expected and what to do. The scripts
    print it without a traceback and end with exit code 2.
    """


# In messages of TensorFlow and JAX; torch and XLA; cuBLAS; onnxruntime; numpy.
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
    """Whether an exception of any backend says that memory, of the CPU or a GPU, was missing."""
    message = f"{type(error).__name__}: {error}".lower()
    return not isinstance(error, UserError) and any(words in message for words in _OUT_OF_MEMORY)


def raise_all(faults: Iterable[str], heading: str) -> None:
    """Raise one `UserError` that lists every fault; do nothing if there is none."""
    listed = [fault.replace("\n", "\n    ") for fault in faults]
    if len(listed) == 1:
        raise UserError(f"{heading}: {listed[0]}")
    if listed:
        raise UserError("\n".join([f"{heading} ({len(listed)}):", *(f"  - {f}" for f in listed)]))
