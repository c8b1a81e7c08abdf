"""Export a trained network as one ONNX file, which predicts without TensorFlow."""

from pathlib import Path

from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import read_configuration
from lib.runtime.command_line import run_script, script_parser
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT


def main() -> None:
    """Read the options, export, say where the file lies and what to do with it."""
    parser = script_parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="of the experiment")
    arguments = parser.parse_args()
    chosen = f"experiment name.name={arguments.name}"
    named = read_configuration(arguments.config, [*arguments.overrides, chosen])
    start_keras()
    from lib.networks.onnx_export import export  # imports Keras

    file = export(Experiment.of(named), arguments.overrides)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    print(f"written to {shown}, {file.stat().st_size / 2**20:.1f} MiB")
    script = "run_prediction.py" if Path.cwd() == PROJECT else PROJECT / "run_prediction.py"
    print(f"next: python {script} IMAGES... --engine onnx --model {shown}")


if __name__ == "__main__":
    run_script(main)
