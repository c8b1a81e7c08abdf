"""Train the network that the configuration describes; run again to continue after an interruption."""

from __future__ import annotations

import time

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.runtime.command_line import next_command, run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.log_file import to_log_file


def main() -> None:
    """Train, print where the results are and how to test the network."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start with the first epoch, even if an earlier training could continue",
    )
    arguments = parser.parse_args()
    configuration = read_configuration(arguments.config, arguments.overrides)
    name = configuration.experiment_name
    if configuration.training_settings.nohup:
        to_log_file(name.folder / f"{name.name}_training.nohup")
    start_keras()
    from lib.training.train import train  # imports Keras

    started = time.time()
    try:
        experiment = train(configuration, fresh=arguments.fresh)
    except KeyboardInterrupt:
        checkpoint = Experiment.of(configuration).checkpoint
        has_begun = checkpoint.is_file() and checkpoint.stat().st_mtime > started
        without = ", without --fresh," if arguments.fresh and has_begun else ""
        print(f"\nrun the same command again{without} to continue after the last complete epoch")
        raise
    print(f"\nwritten to {experiment.folder}; look at {experiment.folder / 'learning_curves.png'}")
    if configuration.data_paths.hdf5("test")[0].is_file():
        print(f"next: {next_command('run_testing.py', arguments)}")


if __name__ == "__main__":
    run_script(main)
