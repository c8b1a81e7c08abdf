import subprocess
import sys

from lib.runtime.paths import PROJECT

A_WARNING_OF_TENSORFLOW = """
import logging
from lib.runtime.keras_startup import start_keras
start_keras()
logging.getLogger("tensorflow").warning("5 out of the last 11 calls triggered tf.function retracing.")
logging.getLogger("tensorflow").error("an error")
"""


def test_warnings_of_tensorflow_are_not_shown_but_its_errors_are():
    command = [sys.executable, "-c", A_WARNING_OF_TENSORFLOW]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0 and "retracing" not in done.stderr and "an error" in done.stderr
