"""Write HDF5 files from the images of DRIVE, STARE or CHASE_DB1."""

from __future__ import annotations

from pathlib import Path

from lib.configuration.reading import read_configuration
from lib.datasets.vessel_sets import VESSEL_SETS
from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.paths import PROJECT


def main() -> None:
    """Check all files of the data set, split them as configured, write HDF5 files and pictures."""
    parser = script_parser(__doc__, default="that of the data set, e.g. configurations/drive_retina_unet.txt")
    parser.add_argument("set", choices=tuple(VESSEL_SETS), help="data set")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the data set (default: path_images)"
    )
    parser.add_argument(
        "--split", metavar="NAME", help="name of a split, e.g. 15_5 (default: [preparation] split_file)"
    )
    arguments = parser.parse_args()

    # Imported here: it takes a second, and run_script reports a missing package.
    from lib.datasets import packing, vessels

    if arguments.config is None:
        default = VESSEL_SETS[arguments.set].configuration
        arguments.config = PROJECT / "configurations" / default
    overrides = list(arguments.overrides)
    if arguments.images:
        overrides.append(f"data paths.path_images={arguments.images.resolve()}")
    if arguments.split:
        file = vessels.named_split(arguments.set, arguments.split)
        arguments.overrides.append(f"preparation.split_file={file}")  # also for the next command
        overrides.append(arguments.overrides[-1])
    configuration = read_configuration(arguments.config, overrides)
    split = vessels.prepare(configuration, arguments.set)

    print(packing.split_table(split, configuration.data_attributes.structure))
    if any(member.truth_fraction is None for member in split["test"]):
        print("the test images have no truth: they are in the HDF5 files, but cannot be scored")
    paths = configuration.data_paths
    print(f"\nwritten to {paths.path_local}; look at {paths.path_local / 'prepared.png'}")
    if split["train"]:
        print(f"next: {next_command('run_training.py', arguments)}")
    else:
        print(
            "next: test a network that was trained on another data set: "
            f'python run_testing.py --config FILE --set "data paths.path_test={paths.path_local}"'
        )


if __name__ == "__main__":
    run_script(main)
