"""How many patches at once: as many as make a device faster, and no more."""

import time
from collections.abc import Callable

from lib.runtime.errors import UserError, is_out_of_memory

SIZES = tuple(2**n for n in range(2, 13))
"""4 to 4096."""

LEAST_GAIN = 1.1
"""What doubling a batch must add to the patches a second; less is noise, and costs memory."""


def fastest_batch_size(compute: Callable[[int], object]) -> int:
    """The batch after which doubling no longer pays, or which is the last that fits into memory.

    Args:
        compute: computes so many patches, and returns when it has.

    Raises:
        UserError: there is no memory for the least of `SIZES`.
    """
    best, best_rate = 0, 0.0
    for size in SIZES:
        try:
            compute(size)  # traces and compiles
            rate = size / min(_seconds(compute, size) for _ in range(3))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if rate < LEAST_GAIN * best_rate:
            break
        best, best_rate = size, rate
    if not best:
        raise UserError(f"not enough memory for {SIZES[0]} patches at once: choose smaller patches")
    return best


def _seconds(compute: Callable[[int], object], size: int) -> float:
    started = time.perf_counter()
    compute(size)
    return time.perf_counter() - started
