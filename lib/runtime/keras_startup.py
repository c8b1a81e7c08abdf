"""Starts Keras without the messages of its backend, and keeps freed memory between training steps."""

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from lib.runtime.errors import UserError

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


BACKENDS = ("tensorflow", "jax", "torch")
"""The backends of Keras; the first is the default, even if ~/.keras/keras.json names another."""


def start_keras() -> None:
    """Import Keras and its backend without their messages; call it before any module that imports keras.

    On Linux glibc keeps freed memory. Otherwise each training step would return its activations to the
    system and request them again (10 to 20 % of the time of a step on a CPU).

    Raises:
        UserError: KERAS_BACKEND names an unknown backend, or one that is not installed.
    """
    _refuse_other_backends(os.environ.setdefault("KERAS_BACKEND", BACKENDS[0]))
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(M_TOP_PAD, 64 * 2**20)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # leaves GPU memory to other programs
    with standard_error_discarded():
        import keras  # only here: it starts the backend

        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:  # before devices are listed
            keras.distribution.initialize()
        devices = keras.distribution.list_devices()  # TensorFlow prints warnings here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns if images have several sizes
    gc.collect()
    gc.freeze()  # garbage collections, frequent with Matplotlib, skip the objects of the imports
    if not any("gpu" in str(d) or "cuda" in str(d) for d in devices):
        print(f"{keras.backend.backend()} finds no GPU and computes on the CPU")


def _refuse_other_backends(backend: str) -> None:
    if backend not in BACKENDS:
        raise UserError(f"KERAS_BACKEND={backend}: expected {', '.join(BACKENDS)}, or no such variable")
    if backend != BACKENDS[0] and find_spec(backend) is None:
        raise UserError(f"KERAS_BACKEND={backend}: this package is missing; pip install {backend}")


@contextmanager
def standard_error_discarded() -> Iterator[None]:
    """Discard what the process writes to standard error, also in C++ code."""
    # TensorFlow's C++ code writes to file descriptor 2 before it reads its log level.
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
