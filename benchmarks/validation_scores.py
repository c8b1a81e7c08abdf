"""AUC and best F1 of trained networks on their validation images, for the choice of a configuration.

    python -m benchmarks.validation_scores EXPERIMENT ...

EXPERIMENT is the folder of an experiment. Whole validation images, pixels in the field of view pooled, one
pass and four mirror images. No test image is read.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_auc_score

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.runtime.command_line import run_script
from lib.runtime.errors import UserError
from lib.runtime.keras_startup import start_keras


def validation_scores(experiment: Experiment, tta: str) -> tuple[float, float]:
    """AUC-ROC and the best F1 of the weights that run_testing.py would test."""
    from lib.evaluation.predicted_images import predict_part
    from lib.networks.keras_model import prediction_settings, trained_model

    configuration = read_configuration(experiment.configuration)
    if configuration.training_settings.validation != "images":
        raise UserError(
            f"{experiment.folder}: its validation images may have trained; expected validation = images"
        )
    settings = dataclasses.replace(configuration.testing_settings, tta=tta)
    model = trained_model(configuration, experiment.weights(settings.best_last))
    settings = prediction_settings(model, settings)
    cases = list(predict_part(model.predict_on_batch, configuration, settings, "validation"))
    scores = np.concatenate([case.probability[case.field_of_view > 0] for case in cases])
    truth = np.concatenate([case.truth[case.field_of_view > 0] for case in cases])
    precision, recall, _ = precision_recall_curve(truth, scores)
    return roc_auc_score(truth, scores), np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))


def main() -> None:
    """Print a row of a Markdown table for each experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT")
    folders = parser.parse_args().experiments
    start_keras()
    print("| experiment | AUC, one pass | F1 | AUC, four mirror images | F1 |\n|---|---|---|---|---|")
    for folder in folders:
        experiment = Experiment(folder, folder.resolve().name)
        both = [validation_scores(experiment, tta) for tta in ("none", "mirrors")]
        cells = [f"{auc:.4f} | {f1:.4f}" for auc, f1 in both]
        print(f"| {experiment.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
