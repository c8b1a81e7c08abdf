"""Turn the published weights of another system into an experiment for run_testing.py."""

from __future__ import annotations

from pathlib import Path

from lib.configuration.reading import read_configuration
from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

CONFIGURATIONS = {"retina_unet": "drive_retina_unet.txt"}
"""The configuration of the experiment that each system published."""


def main() -> None:
    """Read the weight file, write an experiment, print how to score it."""
    parser = script_parser(__doc__, default="that of the published experiment")
    parser.add_argument("system", choices=tuple(CONFIGURATIONS), help="where the weights come from")
    parser.add_argument("file", type=Path, metavar="FILE.h5", help="file of the weights")
    parser.add_argument("--experiment", required=True, metavar="NAME", help="name of the new experiment")
    arguments = parser.parse_args()
    if arguments.config is None:
        arguments.config = PROJECT / "configurations" / CONFIGURATIONS[arguments.system]
    arguments.overrides.append(f"experiment name.name={arguments.experiment}")
    configuration = read_configuration(arguments.config, arguments.overrides)
    start_keras()
    from lib.networks.published_weights import import_published_weights  # imports Keras

    print(f"written to {import_published_weights(configuration, arguments.file)}")
    print(f"next: {next_command('run_testing.py', arguments)}")


if __name__ == "__main__":
    run_script(main)
