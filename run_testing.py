"""Test the trained network: scores, ROC and precision-recall figures, pictures of each test image."""

from lib.configuration.experiment_folder import ensemble_name
from lib.runtime.command_line import add_experiments_option, run_script, script_parser


def main() -> None:
    """Read the configuration, predict and score the test images, say where the results lie."""
    parser = script_parser(__doc__)
    add_experiments_option(parser.add_argument)
    arguments = parser.parse_args()
    names, overrides = arguments.experiments, arguments.overrides
    if names:
        overrides = [*overrides, f"experiment name.name={ensemble_name(names)}"]

    from lib.configuration.reading import experiment_named, read_configuration
    from lib.runtime.keras_startup import start_keras
    from lib.runtime.log_file import to_log_file

    configuration = read_configuration(arguments.config, overrides)
    members = [experiment_named(arguments.config, overrides, member) for member in names]
    folder, name = configuration.results_folder, configuration.experiment_name.name
    if configuration.testing_settings.nohup:
        to_log_file(folder / f"{name}_testing.nohup")
    start_keras()
    from lib.configuration.experiment_folder import Experiment
    from lib.evaluation.test_run import test

    test(configuration, [Experiment(one.folder, one.name) for one in members])
    print((folder / "performances.txt").read_text(encoding="utf-8"))
    print(f"written to {folder}; look at ROC.png and Precision_recall.png there")


if __name__ == "__main__":
    run_script(main)
