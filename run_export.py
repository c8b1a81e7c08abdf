"""Export a trained network as one ONNX file, which predicts without TensorFlow."""

from __future__ import annotations

from pathlib import Path

from lib.configuration.experiment_folder import experiment_named, refuse_untrained, trained_experiments
from lib.runtime.command_line import run_script, script_parser
from lib.runtime.errors import UserError
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT


def main() -> None:
    """Write the ONNX file, print where it is and how to use it."""
    parser = script_parser(__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the experiment (required)")
    arguments = parser.parse_args()
    experiment = experiment_named(arguments.config, arguments.overrides, arguments.name)
    if arguments.name is None:
        known = trained_experiments(experiment.folder.parent)
        raise UserError(f"expected the NAME of an experiment; {known}")
    refuse_untrained(experiment)
    start_keras()
    from lib.networks.onnx_export import export  # imports Keras

    file = export(experiment, arguments.overrides)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    print(f"written to {shown}, {file.stat().st_size / 2**20:.1f} MiB")
    script = "run_prediction.py" if Path.cwd() == PROJECT else PROJECT / "run_prediction.py"
    print(f"next: python {script} IMAGES... --model {shown}")


if __name__ == "__main__":
    run_script(main)
