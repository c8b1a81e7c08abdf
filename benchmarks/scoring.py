"""What run_testing.py does once all images are predicted: scores, figures, tables.

    python -m benchmarks.scoring [--images 20]

Synthetic angiograms of 768x768, their probabilities a blurred truth with noise, nearly all distinct. The peak
memory is that of this whole process, Keras included, as in run_testing.py.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import (
    Claim,
    benchmark_parser,
    in_turn,
    machine,
    medians,
    peak_memory,
    write_report,
)
from lib.command_line import DEFAULT_CONFIGURATION
from lib.configuration import read_configuration
from lib.keras_backend import start_keras

DISTINCT = 4


def predicted_images(number: int, size: int) -> list:
    """Turned copies of a few synthetic angiograms, each with probabilities of its own."""
    from lib.evaluation import PredictedImage
    from lib.synthetic_angiograms import synthetic_angiogram

    drawn = [synthetic_angiogram(1, index, size) for index in range(DISTINCT)]
    cases = []
    for index in range(number):
        one, generator = drawn[index % DISTINCT], np.random.default_rng(index)
        original, truth, inside = (
            np.ascontiguousarray(np.rot90(array, index // DISTINCT))
            for array in (one.image, one.non_perfusion, one.field_of_view)
        )
        logit = 6 * cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 6) - 4
        noise = generator.standard_normal(truth.shape, np.float32)
        logit += 10 * cv2.GaussianBlur(noise, (0, 0), 3)  # as smooth as a network's errors
        probability = 1 / (1 + np.exp(-logit))
        image = original.astype(np.float32) / 255
        cases.append(
            PredictedImage(f"{index}", f"{index}", probability, truth, inside, image, original)
        )
    return cases


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--size", type=int, default=768)
    arguments = parser.parse_args()
    start_keras()
    from lib import testing
    from lib.evaluation import evaluate
    from lib.experiment import Experiment
    from lib.performance_report import write_performances
    from lib.predictions import write_predictions

    cases = predicted_images(arguments.images, arguments.size)
    evaluations = []
    configuration = read_configuration(DEFAULT_CONFIGURATION)
    with tempfile.TemporaryDirectory() as folder:
        results = Experiment(Path(folder), "benchmark")
        stages = {
            "scores": lambda: evaluations.append(evaluate(cases, 0.5, 0.5)),
            "predictions kept": lambda: write_predictions(results.predictions, cases),
            "figures": lambda: testing._draw(results, configuration, cases, evaluations[-1]),
            "tables": lambda: write_performances(results.folder, evaluations[-1], {}),
        }
        first = in_turn(stages, 1)
        memory = peak_memory()  # of one test
        seconds = medians(in_turn(stages, arguments.repeats))
    total = sum(seconds.values())
    of = f"{arguments.images} images of {arguments.size}x{arguments.size}"
    claims = [
        Claim(f"scoring {of}", total, 10, "s"),
        Claim(f"peak memory, scoring {of}", memory, 1500, "MiB"),
    ]
    lines = [
        f"{of}; medians of {arguments.repeats}. The first time adds what is loaded then.",
        "",
        "| stage | s | the first time, s |",
        "|---|---|---|",
        *(f"| {name} | {taken:.2f} | {first[name][0]:.2f} |" for name, taken in seconds.items()),
        f"| together | {total:.2f} | {sum(taken for (taken,) in first.values()):.2f} |",
    ]
    result = {"images": arguments.images, "seconds": seconds, "peak_memory_MiB": memory}
    about = machine("numpy", "scikit-learn", "matplotlib")
    file = arguments.results / "scoring"
    write_report(file, "Scoring", about, lines, result, claims)


if __name__ == "__main__":
    main()
