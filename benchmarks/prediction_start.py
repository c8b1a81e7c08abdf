"""Time from the start of run_prediction.py to the results of one angiogram, with an exported network.

    python -m benchmarks.prediction_start [--model FILE.onnx] [--repeats 5]

Runs the script on one synthetic angiogram of 768x768 and on six of them, in turn. The difference is the time
of five images. The time of the first run, without one image, is that of the start: Python, imports,
reading of the network.
Writes docs/results/prediction_start.{json,md}.
"""

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, medians, run_process, write_report
from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.png import write_png
from lib.networks.network_choice import SHIPPED_NETWORK

SIZE, MANY = 768, 6
MOST_SECONDS_START, MOST_SECONDS_IMAGE = 1.5, 1.0


def predict(engine: str, model: Path, images: list[Path], folder: Path) -> None:
    """Run the script with an empty folder of results, because it skips images that have results."""
    output = Path(tempfile.mkdtemp(dir=folder))
    run_process(["run_prediction.py", *images, "--engine", engine, "--model", model, "--output", output])


def start_and_image_seconds(engine: str, model: Path, folder: Path, repeats: int) -> tuple[float, float]:
    """Medians of the seconds before the first image, and of those of an image."""
    images = [folder / f"{number}.png" for number in range(MANY)]
    for number, image in enumerate(images):
        write_png(image, synthetic_angiogram(1, number, SIZE).image)
    runs = {number: partial(predict, engine, model, images[:number], folder) for number in (1, MANY)}
    in_turn(runs, 1)  # compiles the modules of Python
    seconds = medians(in_turn(runs, repeats))
    of_image = (seconds[MANY] - seconds[1]) / (MANY - 1)
    return seconds[1] - of_image, of_image


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED_NETWORK, help="default: the shipped network")
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        raise SystemExit(f"{arguments.model}: no such file; expected a file of run_export.py")
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        for engine in ("onnx", "openvino"):
            file, folder = arguments.model.absolute(), Path(name)
            seconds[engine] = start_and_image_seconds(engine, file, folder, arguments.repeats)
    claims = [  # OpenVINO compiles the network when it starts: that is for many images
        Claim("start of `run_prediction.py`", seconds["onnx"][0], MOST_SECONDS_START, "s"),
        Claim(f"an angiogram of {SIZE}x{SIZE}, all files", seconds["onnx"][1], MOST_SECONDS_IMAGE, "s"),
    ]
    lines = [
        f"Network: {arguments.model.stem}; seconds, medians of {arguments.repeats} runs, all files written.",
        "",
        "| engine | start | each image |",
        "|---|---|---|",
        *(f"| {engine} | {start:.2f} | {image:.2f} |" for engine, (start, image) in seconds.items()),
    ]
    about = machine("onnxruntime", "openvino")
    write_report(
        arguments.results / "prediction_start",
        "Start of a prediction",
        about,
        lines,
        {"seconds": seconds},
        claims,
    )


if __name__ == "__main__":
    main()
