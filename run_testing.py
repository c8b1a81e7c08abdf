"""Test the trained network: scores, ROC and precision-recall figures, pictures of each test image."""

from lib.command_line import run_script, script_parser


def main() -> None:
    """Read the configuration, predict and score the test images, say where the results lie."""
    arguments = script_parser(__doc__).parse_args()

    from lib.configuration import read_configuration
    from lib.console import to_log_file
    from lib.keras_backend import start_keras

    configuration = read_configuration(arguments.config, arguments.overrides)
    folder, name = configuration.results_folder, configuration.experiment_name.name
    if configuration.testing_settings.nohup:
        to_log_file(folder / f"{name}_testing.nohup")
    start_keras()
    from lib.testing import test

    test(configuration)
    print((folder / "performances.txt").read_text(encoding="utf-8"))
    print(f"written to {folder}; look at ROC.png and Precision_recall.png there")


if __name__ == "__main__":
    run_script(main)
