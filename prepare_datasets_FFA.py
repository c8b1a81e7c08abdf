"""Write HDF5 files from a folder of angiograms with LabelMe polygons or mask images."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from lib.configuration.reading import read_configuration
from lib.networks.network_choice import SHIPPED_NETWORK
from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.errors import UserError


def main() -> None:
    """Check all files of the folder, split them by patient, write HDF5 files, pictures and split.json."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the angiograms (default: path_images, ./FFA)"
    )
    parser.add_argument(
        "--synthetic",
        type=int,
        metavar="N",
        help="first write N (at least 6) synthetic angiograms with exact truth into the folder",
    )
    parser.add_argument(
        "--corrected",
        type=Path,
        metavar="DIR",
        help="first copy into the folder each image whose LabelMe file was corrected, and that file; DIR is "
        "an output folder of run_prediction.py",
    )
    arguments = parser.parse_args()
    overrides = list(arguments.overrides)
    if arguments.images:
        overrides.append(f"data paths.path_images={arguments.images.resolve()}")
    if arguments.synthetic is not None and arguments.synthetic < 6:
        raise UserError(f"--synthetic {arguments.synthetic}: expected at least 6, for three parts")
    configuration = read_configuration(arguments.config, overrides)

    # Imported here: it takes a second, and run_script reports a missing package.
    from lib.datasets import ffa, packing, synthetic_angiograms
    from lib.prediction.certainty import corrected_outlines  # likewise

    paths, seed = configuration.data_paths, configuration.preparation.split_seed
    if arguments.synthetic is not None:
        number = arguments.synthetic
        synthetic_angiograms.write_synthetic_angiograms(paths.path_images, number, seed)
        print(f"{arguments.synthetic} synthetic angiograms: {paths.path_images}")
    if arguments.corrected:
        number = corrected_outlines.copy_corrected(arguments.corrected, paths.path_images)
        print(f"{number} corrected angiograms: {paths.path_images}")
    split, banners = ffa.prepare(configuration)

    print(packing.split_table(split, configuration.data_attributes.structure))
    for banner, number in Counter(str(b) for b in banners.values()).items():
        print(f"information banner cut off {number} image(s): {banner}")
    print(f"\nwritten to {paths.path_local}; look at {paths.path_local / 'prepared.png'}")
    if split["train"]:
        print(f"next: {next_command('run_training.py', arguments)}")
    else:
        print(
            f"next: {next_command('run_testing.py', arguments)} --model {shlex.quote(str(SHIPPED_NETWORK))}"
        )


if __name__ == "__main__":
    run_script(main)
