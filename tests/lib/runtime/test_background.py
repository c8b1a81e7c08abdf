import threading

import pytest

from lib.runtime.background import BackgroundThread


def test_the_caller_goes_on_while_one_picture_is_drawn_and_the_end_waits_for_it():
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


def test_a_failed_drawing_is_raised_by_the_next_or_the_end():
    with pytest.raises(OSError, match="disk"), BackgroundThread() as thread:
        thread.run(fails)
    with pytest.raises(OSError, match="disk"), BackgroundThread() as thread:
        thread.run(fails)
        thread.run(pytest.fail, "drawn all the same")


def test_the_caller_s_own_error_is_not_hidden():
    with pytest.raises(ValueError, match="mine"), BackgroundThread() as thread:
        thread.run(fails)
        raise ValueError("mine")
