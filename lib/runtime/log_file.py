"""`nohup = True`: a run that continues after the terminal closes and writes its output to a file."""

import os
import signal
import sys
from pathlib import Path


def to_log_file(file: Path) -> None:
    """Append all further output of this process to `file`, and continue when the terminal closes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    print(f"nohup = True: output goes to {file}", flush=True)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
