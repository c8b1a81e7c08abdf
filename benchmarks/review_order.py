"""Does correcting outlines in the order of review_order.csv raise Dice faster than in random order?

    python -m benchmarks.review_order

A pool of synthetic angiograms, half of them degraded, is predicted by the shipped network. Its outlines are
corrected (replaced by the exact ones), in the order of review_order.csv and in random order; after some
numbers of images, the weights of the repository are trained further on the corrected ones. Other images test.
Writes docs/results/review_order.{json,md}.
"""

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.certainty import degraded
from benchmarks.measuring import Claim, benchmark_parser, machine, write_report
from lib.configuration.reading import Configuration, read_configuration
from lib.datasets.ffa import prepare
from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
from lib.evaluation.test_run import test
from lib.experiments.statistics_report import markdown_table
from lib.images.png import write_png
from lib.images.reading import read_image
from lib.networks.from_onnx import read_onnx_network
from lib.networks.network_choice import SHIPPED_NETWORK
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.runtime.keras_startup import start_keras
from lib.training.train import train

POOL, TESTED, SIZE = 30, 12, 384
NUMBERS = (2, 5, 10)
"""How many images are corrected before each training."""

RANDOM_ORDERS = 2
SETTINGS = (
    "training settings.initial_weights=pretrained/cnp_ffa/cnp_ffa.weights.h5",
    "training settings.validation=none",
    "training settings.N_epochs=2",
    "preparation.split_ratio=1:0:0",
    "testing settings.tta=none",
)
"""Short trainings: 60 steps of 8 images."""


def draw(folder: Path, number: int, seed: int) -> None:
    """Write angiograms with truth, every second one degraded."""
    write_synthetic_angiograms(folder, number, seed, SIZE)
    for index, file in enumerate(sorted(folder.glob("*.png"))):
        write_png(file, degraded(read_image(file), index))


def orders(pool: Path, output: Path) -> dict[str, list[str]]:
    """Names of the images in the review order, and in random orders."""
    network = read_onnx_network(SHIPPED_NETWORK)
    predict_images(network, find_images([pool], output), output, {})
    with (output / "review_order.csv").open(encoding="utf-8-sig", newline="") as stream:
        reviewed = [Path(row["image"]).stem for row in csv.DictReader(stream)]
    random = np.random.default_rng(0)
    names = sorted(reviewed)
    shuffled = {f"random {n}": random.permutation(names).tolist() for n in range(1, RANDOM_ORDERS + 1)}
    return {"review order": reviewed, **shuffled}


def configuration_of(folder: Path, images: Path, *more: str) -> Configuration:
    """The settings of a training on the images of a folder."""
    paths = (f"data paths.path_images={images}", f"data paths.path_local={images}_datasets")
    experiment = (f"experiment name.path_experiments={folder}", f"experiment name.name={images.name}")
    file = SHIPPED_NETWORK.with_name("configuration.txt")
    return read_configuration(file, [*SETTINGS, *paths, *experiment, *more])


def dice_after(folder: Path, pool: Path, tested: Path, names: Sequence[str], title: str) -> float:
    """Train on the corrected images of these names, test on those of `tested`."""
    corrected = folder / title.replace(" ", "_")
    corrected.mkdir()
    for name in names:
        for ending in (".png", ".json"):
            shutil.copy(pool / f"{name}{ending}", corrected)
    prepare(configuration_of(folder, corrected))  # without path_test, whose files it would replace
    configuration = configuration_of(folder, corrected, f"data paths.path_test={tested}_datasets")
    train(configuration)
    return test(configuration).in_field_of_view.f1


def main() -> None:
    parser = benchmark_parser(__doc__)
    arguments = parser.parse_args()
    start_keras()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool, tested = folder / "pool", folder / "tested"
        draw(pool, POOL, seed=51)
        draw(tested, TESTED, seed=52)
        prepare(configuration_of(folder, tested, f"preparation.split_ratio=1:0:{TESTED - 1}"))
        for order, names in orders(pool, folder / "predictions").items():
            found[order] = [
                dice_after(folder, pool, tested, names[:number], f"{order} {number}") for number in NUMBERS
            ]
    random = np.mean([dice for order, dice in found.items() if order != "review order"], axis=0)
    reviewed = np.array(found["review order"])
    claims = [
        Claim(
            "Dice after ten corrections minus that after two", float(reviewed[-1] - reviewed[0]), 0, "", True
        ),
        Claim("mean Dice in review order minus random", float((reviewed - random).mean()), 0, "", True),
    ]
    rows = [[order, *(f"{dice:.3f}" for dice in values)] for order, values in found.items()]
    lines = [markdown_table(["order", *(f"{n} corrected" for n in NUMBERS)], rows)]
    about = machine("tensorflow", "onnxruntime")
    write_report(
        arguments.results / "review_order", "Order of correction", about, lines, {"dice": found}, claims
    )


if __name__ == "__main__":
    main()
