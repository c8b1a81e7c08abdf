import threading

import pytest

from lib.runtime.background import BackgroundThread


def test_the_caller_continues_and_the_end_waits_for_the_function():
    drawn, caller_went_on = [], threading.Event()

    def picture(name):
        assert caller_went_on.wait(10)
        drawn.append(name)

    with BackgroundThread() as thread:
        thread.run(picture, "first")
        assert drawn == []
        caller_went_on.set()
        thread.run(picture, "second")
        assert drawn[0] == "first"
    assert drawn == ["first", "second"]


def fails():
    raise OSError("the disk is full")


def test_an_error_is_raised_by_the_next_call_or_at_the_end():
    with pytest.raises(OSError, match="disk"), BackgroundThread() as thread:
        thread.run(fails)
    with pytest.raises(OSError, match="disk"), BackgroundThread() as thread:
        thread.run(fails)
        thread.run(pytest.fail, "ran after an error")


def test_an_error_of_the_caller_is_not_replaced():
    with pytest.raises(ValueError, match="mine"), BackgroundThread() as thread:
        thread.run(fails)
        raise ValueError("mine")
