"""Time and memory of run_testing.py after the prediction: writing predictions, scores, figures, tables.

    python -m benchmarks.scoring [--images 20]

Synthetic angiograms of 768x768, whose probabilities are a blurred truth with noise, almost all different.
The peak memory is that of this process with Keras, as in run_testing.py.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, medians, peak_memory, write_report
from lib.configuration.reading import read_configuration
from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.evaluation.performance_report import write_performances
from lib.evaluation.predicted_images import read_predictions, write_predictions
from lib.evaluation.scoring import PredictedImage, evaluate
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import DEFAULT_CONFIGURATION

DISTINCT = 4
MANY = 100
"""A larger number of images, to check that memory does not grow."""


def predicted_images(number: int, size: int) -> Iterator[PredictedImage]:
    """Yield rotated copies of a few synthetic angiograms, each with different probabilities."""
    drawn = [synthetic_angiogram(1, index, size) for index in range(DISTINCT)]
    for index in range(number):
        one, generator = drawn[index % DISTINCT], np.random.default_rng(index)
        original, truth, inside = (
            np.ascontiguousarray(np.rot90(array, index // DISTINCT))
            for array in (one.image, one.non_perfusion, one.field_of_view)
        )
        logit = 6 * cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 6) - 4
        noise = generator.standard_normal(truth.shape, np.float32)
        logit += 10 * cv2.GaussianBlur(noise, (0, 0), 3)  # as smooth as the errors of a network
        probability = 1 / (1 + np.exp(-logit))
        yield PredictedImage(f"{index}", f"{index}", probability, truth, inside, original)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--size", type=int, default=768)
    arguments = parser.parse_args()
    start_keras()
    from lib.configuration.experiment_folder import Experiment
    from lib.evaluation.test_run import score_and_draw

    configuration = read_configuration(DEFAULT_CONFIGURATION)
    images = partial(predicted_images, arguments.images, arguments.size)
    with tempfile.TemporaryDirectory() as folder:
        results = Experiment(Path(folder), "benchmark")
        file = results.predictions

        def score() -> None:
            write_performances(results.folder, score_and_draw(results, configuration, 0.5, 0.5), {})

        stages = {
            "predictions kept": lambda: write_predictions(file, images()),
            "scores, figures, tables": score,
            "scores alone": lambda: evaluate(read_predictions(file), 0.5, 0.5),
            "making the predictions": lambda: deque(images(), maxlen=0),
        }
        first = medians(in_turn(stages, 1))
        memory = peak_memory()  # of one test
        seconds = medians(in_turn(stages, arguments.repeats))
        write_predictions(file, predicted_images(MANY, arguments.size))
        score()
        memory_of_many = peak_memory()
    for taken in (first, seconds):
        taken["predictions kept"] -= taken.pop("making the predictions")
    total = seconds["predictions kept"] + seconds["scores, figures, tables"]
    of = f"{arguments.images} images of {arguments.size}x{arguments.size}"
    claims = [
        Claim(f"scoring {of}", total, 10, "s"),
        Claim(f"peak memory, scoring {of}", memory, 1500, "MiB"),
        Claim(f"peak memory, scoring {MANY} images", memory_of_many, 1500, "MiB"),
    ]
    lines = [
        f"{of}; medians of {arguments.repeats}. The first time adds what is loaded then.",
        "",
        "| stage | s | the first time, s |",
        "|---|---|---|",
        *(f"| {name} | {taken:.2f} | {first[name]:.2f} |" for name, taken in seconds.items()),
    ]
    result = {"images": arguments.images, "seconds": seconds, "peak_memory_MiB": memory}
    about = machine("numpy", "h5py", "matplotlib")
    file = arguments.results / "scoring"
    write_report(file, "Scoring", about, lines, result, claims)


if __name__ == "__main__":
    main()
