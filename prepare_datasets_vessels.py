"""Write a vessel data set (DRIVE, STARE or CHASE_DB1) as HDF5 files."""

from pathlib import Path

from lib.datasets.vessel_sets import VESSEL_SETS
from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.paths import PROJECT


def main() -> None:
    """Read the set as its site ships it, check all of it, split it as named, write HDF5 and pictures."""
    parser = script_parser(
        __doc__, default="the set's own, e.g. configurations/drive_retina_unet.txt"
    )
    parser.add_argument("set", choices=tuple(VESSEL_SETS))
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="the set's folder (default: path_images)"
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="a named split, e.g. 15_5 (default: [preparation] split_file)",
    )
    arguments = parser.parse_args()

    from lib.configuration.reading import read_configuration
    from lib.datasets.packing import split_table
    from lib.datasets.vessels import named_split, prepare

    if arguments.config is None:
        arguments.config = PROJECT / "configurations" / VESSEL_SETS[arguments.set].configuration
    overrides = list(arguments.overrides)
    if arguments.images:
        overrides.append(f"data paths.path_images={arguments.images.resolve()}")
    if arguments.split:
        file = named_split(arguments.set, arguments.split)
        overrides.append(f"preparation.split_file={file}")
    configuration = read_configuration(arguments.config, overrides)
    split = prepare(configuration, arguments.set)

    print(split_table(split, configuration.data_attributes.structure))
    if any(member.truth_fraction is None for member in split["test"]):
        print("the test images came without truth: they are packed, but cannot be scored")
    paths = configuration.data_paths
    print(f"\nwritten to {paths.path_local}; look at {paths.path_local / 'prepared.png'}")
    print(f"next: {next_command('run_training.py', arguments)}")


if __name__ == "__main__":
    run_script(main)
