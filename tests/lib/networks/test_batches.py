import time

import pytest

from lib.networks.batches import fastest_batch_size
from lib.runtime.errors import UserError


def device(overhead, each, memory=10**6):
    """Milliseconds of a call and of a patch; how many fit."""

    def compute(size):
        if size > memory:
            raise MemoryError
        time.sleep((overhead + each * size) / 1000)

    return compute


def test_a_batch_grows_while_that_pays():
    # Patches a second, by batch: 4: 190, 8: 364, 16: 667, 32: 1143, 64: 1778, 128: 2462, 256: 3048, 512: 3459 ...
    assert fastest_batch_size(device(20, 0.25)) == 512
    assert fastest_batch_size(device(0, 2)) == 4


def test_it_grows_no_further_than_memory():
    assert fastest_batch_size(device(20, 0.25, memory=100)) == 64
    with pytest.raises(UserError, match="not enough memory for 4 patches"):
        fastest_batch_size(device(1, 1, memory=3))


def test_other_errors_are_not_taken_for_memory():
    def broken(size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fastest_batch_size(broken)
