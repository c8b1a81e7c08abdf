"""The published weights of retina-unet with DRIVE, as a trained experiment in a temporary folder."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import run_process
from lib.runtime.paths import PROJECT

CONFIGURATION = PROJECT / "configurations" / "drive_retina_unet.txt"


def configured(folder: Path) -> list[str]:
    """Settings of an experiment with all files in `folder`."""
    return [
        f"data paths.path_local={folder / 'datasets'}",
        f"experiment name.path_experiments={folder / 'experiments'}",
        "experiment name.name=published",
    ]


def published_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with --images and --weights."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--images", type=Path, required=True, metavar="DRIVE")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE.h5")
    return parser


@contextmanager
def imported_experiment(arguments: argparse.Namespace) -> Iterator[Path]:
    """Yield a temporary folder with the HDF5 files of DRIVE and the imported weights."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = [word for setting in configured(folder) for word in ("--set", setting)]
        images = arguments.images.resolve()
        run_process(["prepare_datasets_vessels.py", "DRIVE", "--images", images, *sets])
        importing = ["run_import.py", "retina_unet", arguments.weights.resolve()]
        run_process([*importing, "--experiment", "published", *sets])
        yield folder
