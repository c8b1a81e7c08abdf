"""Train the network that the configuration describes; run again after an interruption to go on."""

from lib.runtime.command_line import next_command, run_script, script_parser


def main() -> None:
    """Read the configuration, train, say where the results lie."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--fresh", action="store_true", help="start anew even where a training can be gone on with"
    )
    arguments = parser.parse_args()

    from lib.configuration.reading import read_configuration
    from lib.runtime.keras_startup import start_keras
    from lib.runtime.log_file import to_log_file

    configuration = read_configuration(arguments.config, arguments.overrides)
    name = configuration.experiment_name
    if configuration.training_settings.nohup:
        to_log_file(name.folder / f"{name.name}_training.nohup")
    start_keras()
    from lib.training.train import train

    try:
        experiment = train(configuration, fresh=arguments.fresh)
    except KeyboardInterrupt:
        print("\nto go on after the last whole epoch, start it again")
        raise
    print(f"\nwritten to {experiment.folder}; look at {experiment.folder / 'learning_curves.png'}")
    print(f"next: {next_command('run_testing.py', arguments)}")


if __name__ == "__main__":
    run_script(main)
