"""Tests of the start of Keras, each in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

from lib.runtime.paths import PROJECT

ENABLED = "from tensorflow.python.util._pywrap_util_port import IsMklEnabled; print(IsMklEnabled())"


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="TensorFlow has oneDNN on x86 only")
@pytest.mark.parametrize(("chosen", "used"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")])
def test_a_training_uses_onednn_unless_the_user_switched_it_off(chosen, used):
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    code = f"from lib.runtime.keras_startup import start_keras; start_keras(training=True); {ENABLED}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment | chosen, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == used, done.stderr
