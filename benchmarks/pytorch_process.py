"""A script with PyTorch in a second process: PyTorch is no dependency of this project."""

import pickle
import subprocess
from pathlib import Path

from lib.runtime.paths import PROJECT


class PyTorch:
    """A script of this folder, run by an interpreter that has PyTorch; it waits while others are measured."""

    def __init__(self, python: Path, script: str, *arguments: str | Path) -> None:
        command = [python, PROJECT / "benchmarks" / script, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: object) -> object:
        """Send a request, and wait for the answer."""
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            raise SystemExit("the process of PyTorch has ended; its message is above") from None

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
