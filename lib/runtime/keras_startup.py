"""Starting Keras: quietly, and with memory kept between steps."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def start_keras() -> None:
    """Import Keras and its backend without their banners; call before anything that imports keras.

    On Linux glibc is told to keep freed memory, which a training step asks for again at once: without
    it each step maps and unmaps its activations (10 to 20 % of a step's time on CPU).
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
            mallopt(M_TOP_PAD, 64 * 2**20)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # leaves room to others on the GPU
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # whatever ~/.keras/keras.json says
    with _standard_error_discarded():
        import keras

        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:  # before the devices are looked for
            keras.distribution.initialize()
        devices = keras.distribution.list_devices()  # TensorFlow looks for a GPU, and grumbles
    gc.collect()
    gc.freeze()  # Matplotlib's many objects would have those of the imports searched again and again
    if not any("gpu" in str(d) or "cuda" in str(d) for d in devices):
        print(f"{keras.backend.backend()} finds no GPU and computes on the CPU")


@contextmanager
def _standard_error_discarded() -> Iterator[None]:
    # TensorFlow's C++ code writes to file descriptor 2 before its own log level is read.
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
