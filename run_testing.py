"""Score a trained network on the test images: tables, ROC and precision-recall figures, pictures."""

from __future__ import annotations

from lib.configuration.experiment_folder import Experiment, ensemble_name, experiment_named, refuse_untrained
from lib.configuration.reading import read_configuration
from lib.runtime.command_line import add_experiments_option, run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.log_file import to_log_file


def main() -> None:
    """Predict and score the test images, print the scores and where the results are."""
    parser = script_parser(__doc__)
    add_experiments_option(parser.add_argument)
    arguments = parser.parse_args()
    names, overrides = arguments.experiments, arguments.overrides
    if names:
        overrides = [*overrides, f"experiment name.name={ensemble_name(names)}"]
    configuration = read_configuration(arguments.config, overrides)
    members = [experiment_named(arguments.config, overrides, member) for member in names]
    for experiment in members or [Experiment.of(configuration)]:
        refuse_untrained(experiment)
    folder, name = configuration.results_folder, configuration.experiment_name.name
    if configuration.testing_settings.nohup:
        to_log_file(folder / f"{name}_testing.nohup")
    start_keras()
    from lib.evaluation.test_run import test  # imports Keras

    test(configuration, members)
    print((folder / "performances.txt").read_text(encoding="utf-8"))
    print(f"written to {folder}; look at ROC.png and Precision_recall.png there")


if __name__ == "__main__":
    run_script(main)
