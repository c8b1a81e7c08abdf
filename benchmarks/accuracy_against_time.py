"""AUC on DRIVE against seconds an image: ours, the same W-Net in PyTorch, the published retina-unet weights.

    python -m benchmarks.accuracy_against_time EXPERIMENT --images DRIVE --weights test_best_weights.h5
        [--torch-python PYTHON]

EXPERIMENT is the folder of a tested `w_net`, e.g. of configurations/drive_best.txt. PYTHON is an interpreter
with PyTorch; the network there gets the weights of EXPERIMENT. All predict the test images of DRIVE one by
one, in turn; the time is the median of an image, without preprocessing. Writes
docs/results/accuracy_against_time.{json,md,png}.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import Claim, machine, write_report
from benchmarks.published_network import CONFIGURATION, configured, imported_experiment, published_parser
from benchmarks.pytorch_process import PyTorch
from lib.configuration.experiment_folder import Experiment
from lib.configuration.reading import Configuration, read_configuration
from lib.configuration.sections import Preprocessing, TestingSettings
from lib.datasets.prepared_hdf5 import PreparedImage
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

MIRRORED = "four mirror images"
PUBLISHED = "retina-unet, published weights"
SLOW = f"{PUBLISHED}, stride 5"
FORMATS = ("contiguous_format", "channels_last")
SAME_NETWORK = ("w_net, Keras", *(f"w_net, PyTorch, {one}" for one in FORMATS))
LARGEST_DIFFERENCE = 1e-3
"""Of a probability of the first image, by rounding."""


@dataclass
class Candidate:
    """A way to predict an image, and what it gave.

    `predict` gives the probabilities of a batch, and the seconds of the call that are not counted.
    """

    name: str
    preprocessing: Preprocessing
    settings: TestingSettings
    threshold: float
    predict: Callable[[np.ndarray], tuple[np.ndarray, float]]
    scores: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def run(self, image: PreparedImage) -> None:
        """Predict an image, and keep the probabilities in the field of view and the time."""
        from lib.images.preprocessing import preprocess
        from lib.prediction.sliding_window import predict_stored_size

        uncounted = 0.0

        def predict(images: np.ndarray) -> np.ndarray:
            nonlocal uncounted
            found, seconds = self.predict(images)
            uncounted += seconds
            return found

        levels = preprocess(image.original, image.field_of_view, self.preprocessing)
        started = time.perf_counter()
        found = predict_stored_size(predict, levels, image.field_of_view, self.settings)
        self.seconds.append(time.perf_counter() - started - uncounted)
        self.scores.append(found[image.field_of_view > 0])


def counted(predict: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """The same predictions; all seconds are counted."""
    return lambda images: (predict(images), 0.0)


def without_transfer(process: PyTorch) -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """The predictions of PyTorch; the transfer to the other process and back is not counted."""

    def predict(images: np.ndarray) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        found, seconds = process.ask(images)
        return found, time.perf_counter() - started - seconds

    return predict


def write_weights(model, file: Path) -> None:
    """Write the weights of a `w_net` for `pytorch_w_net.with_weights`, in the order of their creation."""
    from models.blocks import PROBABILITY_LAYER, ROUGH_MAP_LAYER

    kinds, arrays = ("Conv2D", "Conv2DTranspose", "BatchNormalization"), {}
    for kind in kinds:
        found = [layer for layer in model.layers if type(layer).__name__ == kind]
        last = {ROUGH_MAP_LAYER: None, PROBABILITY_LAYER: None}
        numbered = sorted((one for one in found if one.name not in last), key=number_of_layer)
        if kind == "Conv2D":
            half = len(numbered) // 2
            rough, probability = (model.get_layer(name) for name in last)
            numbered = [*numbered[:half], rough, *numbered[half:], probability]
        for position, layer in enumerate(numbered):
            for number, values in enumerate(layer.get_weights()):
                arrays[f"{kind}{position:03}_{number}"] = values
    np.savez(file, **arrays)


def number_of_layer(layer) -> int:
    """The number at the end of a name that Keras gave, 0 for the first layer of a kind."""
    ending = layer.name.rpartition("_")[2]
    return int(ending) if ending.isdigit() else 0


def ways_of_w_net(
    experiment: Experiment, folder: Path, python: Path | None
) -> tuple[list[Candidate], list[PyTorch]]:
    """The network by Keras and by onnxruntime, with and without mirror images, and by PyTorch."""
    from lib.networks.from_experiments import read_keras_network
    from lib.networks.from_onnx import read_onnx_network
    from lib.networks.keras_model import trained_model
    from lib.networks.onnx_export import write_onnx
    from models.folding import fold_for_prediction

    configuration = read_configuration(experiment.configuration)
    network, _ = read_keras_network(experiment)
    weights = experiment.weights(configuration.testing_settings.best_last)
    model, rounded = (trained_model(configuration, weights, p) for p in ("float32", "mixed_bfloat16"))
    exported = folder / "w_net.onnx"
    write_onnx([model], network, configuration, exported)
    engines = {
        "Keras": fold_for_prediction(model).predict_on_batch,
        "Keras, bfloat16": fold_for_prediction(rounded).predict_on_batch,
        "onnxruntime": read_onnx_network(exported).predict,
    }
    engines = {name: counted(predict) for name, predict in engines.items()}
    mirrors = dataclasses.replace(network.testing_settings, tta="mirrors")
    mirrored = [(f"{name}, {MIRRORED}", predict, mirrors) for name, predict in engines.items()]
    processes = []
    if python:
        copied = folder / "weights.npz"
        write_weights(model, copied)
        processes = [PyTorch(python, "pytorch_w_net.py", copied, one) for one in FORMATS]
        engines |= {
            f"PyTorch, {f}": without_transfer(process) for f, process in zip(FORMATS, processes, strict=True)
        }
    single = dataclasses.replace(network.testing_settings, tta="none")
    ways = [*((name, predict, single) for name, predict in engines.items()), *mirrored]
    return [
        Candidate(f"w_net, {name}", network.preprocessing, settings, network.threshold, predict)
        for name, predict, settings in ways
    ], processes


def ways_of_published_network(configuration: Configuration) -> list[Candidate]:
    """The published weights on whole images, and as their authors predicted."""
    from lib.networks.keras_model import prediction_settings, trained_model
    from models.folding import fold_for_prediction

    model = trained_model(configuration, Experiment.of(configuration).weights("best"))
    model = fold_for_prediction(model)
    authors = prediction_settings(model, configuration.testing_settings)
    ways = {f"{PUBLISHED}, whole image": dataclasses.replace(authors, window="whole"), SLOW: authors}
    return [
        Candidate(name, configuration.preprocessing, settings, 0.5, counted(model.predict_on_batch))
        for name, settings in ways.items()
    ]


def scored(candidates: list[Candidate], images: list) -> dict[str, dict[str, float]]:
    """Pooled scores in the field of view, and the median seconds of an image, of each candidate."""
    from sklearn.metrics import f1_score, roc_auc_score

    for candidate in candidates:
        quick = dataclasses.replace(candidate.settings, stride_height=48, stride_width=48)
        dataclasses.replace(candidate, settings=quick, scores=[], seconds=[]).run(images[0])  # traces
    for number, image in enumerate(images, 1):
        for candidate in candidates:
            candidate.run(image)
        print(f"image {number} of {len(images)}", flush=True)
        if number == 1:
            refuse_other_probabilities(candidates)
    truth = np.concatenate([image.truth[image.field_of_view > 0] for image in images]) > 0
    return {
        candidate.name: {
            "auc_roc": float(roc_auc_score(truth, np.concatenate(candidate.scores))),
            "f1": float(f1_score(truth, np.concatenate(candidate.scores) >= candidate.threshold)),
            "seconds": statistics.median(candidate.seconds),
        }
        for candidate in candidates
    }


def refuse_other_probabilities(candidates: list[Candidate]) -> None:
    """End the benchmark if PyTorch does not compute the same as Keras."""
    (keras, *_), *others = (one.scores for one in candidates if one.name in SAME_NETWORK)
    for scores, *_ in others:
        if (difference := np.abs(scores - keras).max()) > LARGEST_DIFFERENCE:
            raise SystemExit(f"a probability of PyTorch differs from that of Keras by {difference:.2g}")


def draw(file: Path, rows: dict[str, dict[str, float]]) -> None:
    """Draw AUC against seconds, one marker a way."""
    from matplotlib.ticker import ScalarFormatter

    from lib.figures.style import NETWORKS, legend_below, new_figure, save_figure, style_axes

    figure = new_figure(7.0, 6.0)
    axes = figure.add_axes((0.13, 0.42, 0.83, 0.55))
    style_axes(axes)
    for (name, row), marker in zip(rows.items(), "osD^v<>P*X", strict=False):
        colour = NETWORKS[1 if name.startswith(PUBLISHED) else 2 if "PyTorch" in name else 0]
        axes.plot(row["seconds"], row["auc_roc"], marker, color=colour, markersize=8, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.margins(0.08)
    axes.set_xlabel("Seconds an image, logarithmic")
    axes.set_ylabel("AUC-ROC, DRIVE test images, field of view")
    legend_below(axes)
    save_figure(figure, file)


def main() -> None:
    """Measure, and write the three files."""
    parser = published_parser(__doc__)
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT")
    parser.add_argument("--torch-python", type=Path, metavar="PYTHON")
    arguments = parser.parse_args()
    start_keras()
    from lib.datasets.prepared_hdf5 import read_part

    experiment = Experiment(arguments.experiment, arguments.experiment.resolve().name)
    with imported_experiment(arguments) as folder:
        configuration = read_configuration(CONFIGURATION, configured(folder))
        candidates, processes = ways_of_w_net(experiment, folder, arguments.torch_python)
        candidates += ways_of_published_network(configuration)
        rows = scored(candidates, list(read_part(configuration.data_paths.hdf5("test"))))
        for process in processes:
            process.close()
    ours = min(rows[f"w_net, {engine}"]["seconds"] for engine in ("Keras", "onnxruntime"))
    claims = [Claim("DRIVE, an image by `w_net` in float32, without preprocessing", ours, 0.25, "s")]
    if processes:
        theirs = min(rows[f"w_net, PyTorch, {one}"]["seconds"] for one in FORMATS)
        claims.append(Claim("`w_net` in float32 against the faster PyTorch", theirs / ours, 1.0, "x", True))
    report = PROJECT / "docs" / "results" / "accuracy_against_time"
    draw(report.with_suffix(".png"), rows)
    lines = [
        "Test images of DRIVE, field of view pooled; F1 at the threshold that EXPERIMENT chose, with mirror",
        "images, in all rows of `w_net`, at .5 for retina-unet; seconds: median of an image, without",
        "preprocessing, all ways in turn.",
        "",
        "![AUC against seconds](accuracy_against_time.png)",
        "",
        "| | AUC-ROC | F1 | s an image |",
        "|---|---|---|---|",
        *(f"| {n} | {r['auc_roc']:.5f} | {r['f1']:.4f} | {r['seconds']:.3f} |" for n, r in rows.items()),
    ]
    about = machine("keras", "tensorflow", "onnxruntime")
    write_report(report, "Accuracy against time on DRIVE", about, lines, {"ways": rows}, claims)


if __name__ == "__main__":
    main()
