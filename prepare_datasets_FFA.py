"""Pack a folder of angiograms and their LabelMe polygons (or mask images) into HDF5 files."""

from collections import Counter
from pathlib import Path

from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.errors import UserError


def main() -> None:
    """Read the folder, check all of it, split it by patient, write HDF5, pictures and split.json."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="the folder (default: path_images, ./FFA)"
    )
    parser.add_argument(
        "--synthetic",
        type=int,
        metavar="N",
        help="first make N synthetic angiograms with exact truth in that folder",
    )
    arguments = parser.parse_args()
    overrides = list(arguments.overrides)
    if arguments.images:
        overrides.append(f"data paths.path_images={arguments.images.resolve()}")
    if arguments.synthetic is not None and arguments.synthetic < 6:
        raise UserError(f"--synthetic {arguments.synthetic}: expected at least 6, for three parts")

    from lib.configuration.reading import read_configuration
    from lib.datasets.ffa import prepare
    from lib.datasets.packing import split_table
    from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
    from lib.runtime.progress import progress

    configuration = read_configuration(arguments.config, overrides)
    paths, seed = configuration.data_paths, configuration.preparation.split_seed
    if arguments.synthetic is not None:
        write_synthetic_angiograms(
            paths.path_images,
            arguments.synthetic,
            seed,
            progress=lambda indices: progress(indices, "drawing"),
        )
        print(f"{arguments.synthetic} synthetic angiograms: {paths.path_images}")
    split, banners = prepare(configuration)

    print(split_table(split, configuration.data_attributes.structure))
    for banner, number in Counter(str(b) for b in banners.values()).items():
        print(f"information banner cut off {number} image(s): {banner}")
    print(f"\nwritten to {paths.path_local}; look at {paths.path_local / 'prepared.png'}")
    print(f"next: edit {arguments.config}, then {next_command('run_training.py', arguments)}")


if __name__ == "__main__":
    run_script(main)
