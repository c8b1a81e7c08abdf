"""Time from the file of an angiogram to its outlines, with full-width networks.

    python -m benchmarks.prediction_latency [--repeats 5]

Builds each network with the width of its paper and random weights (time does not depend on them) and exports
it. Then all engines and precisions in turn read, predict, measure and outline a synthetic angiogram of
768x868. Writes docs/results/prediction_latency.{json,md}.
"""

import dataclasses
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measuring import benchmark_parser, in_turn, machine, medians, write_report
from lib.configuration.reading import read_configuration
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import DEFAULT_CONFIGURATION

NETWORKS = {"enhance_laddernet": "64 128 256 512", "ldpc_net": "64 128 256"}
WINDOWS = {
    "whole": {"window": "whole"},
    "tiles of 512": {"window": "tiles", "tile_size": 512, "tile_overlap": 48},
    "default": {},
}
HEIGHT, WIDTH = 768, 868


def on_keras(architecture: str, filters: str, precision: str = "float32"):
    """Build a network with random weights; return configuration, Keras model and `TrainedNetwork`."""
    from lib.networks.batches import with_tile_size
    from lib.networks.keras_model import build_model
    from lib.networks.trained_network import TrainedNetwork
    from models.cost import activation_bytes_per_pixel

    settings = [f"model.architecture={architecture}", f"model.filters={filters}"]
    configuration = read_configuration(DEFAULT_CONFIGURATION, settings)
    model = build_model(configuration, precision)
    settings = with_tile_size(configuration.testing_settings, partial(activation_bytes_per_pixel, model))
    network = TrainedNetwork(
        name=architecture,
        architecture=architecture,
        structure="CNP",
        label="NP",
        info_banner="auto",
        preprocessing=configuration.preprocessing,
        testing_settings=settings,
        threshold=0.999,  # random weights with .5 would give a mask of noise with a thousand areas
        threshold_source="benchmark",
        min_area_px=50,
        weights_sha256="",
        predict=model.predict_on_batch,
    )
    return configuration, model, network


def engines(architecture: str, filters: str, folder: Path) -> dict:
    """Build the network for every engine and precision."""
    from lib.networks.from_onnx import read_onnx_network
    from lib.networks.onnx_export import write_onnx

    configuration, model, network = on_keras(architecture, filters)
    file = folder / f"{architecture}.onnx"
    write_onnx([model], network, configuration, file)
    rounded = ["testing settings.precision=mixed_bfloat16"]
    return {
        "Keras": network,
        "Keras, bfloat16": on_keras(architecture, filters, "mixed_bfloat16")[2],
        "onnxruntime": read_onnx_network(file),
        "OpenVINO": read_onnx_network(file, engine="openvino"),
        "OpenVINO, bfloat16": read_onnx_network(file, rounded, "openvino"),
    }


def outline(network, window: dict, image: Path, folder: Path) -> None:
    from lib.prediction.found_images import FoundImage
    from lib.prediction.image_file import predict_file
    from lib.prediction.result_files import encode_result
    from lib.runtime.atomic_files import written_atomically

    settings = dataclasses.replace(network.testing_settings, **window)
    network = dataclasses.replace(network, testing_settings=settings)
    result = encode_result(network, FoundImage.of(image, folder), "", predict_file(network, image))
    for kind, content in result.contents.items():
        with written_atomically(folder / kind) as (temporary,):
            temporary.write_bytes(content)


def main() -> None:
    arguments = benchmark_parser(__doc__).parse_args()
    start_keras()
    from lib.datasets.synthetic_angiograms import synthetic_angiogram
    from lib.images.png import write_png

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, cut = folder / "angiogram.png", (WIDTH - HEIGHT) // 2
        write_png(image, synthetic_angiogram(1, 0, WIDTH).image[cut : cut + HEIGHT])
        for architecture, filters in NETWORKS.items():
            networks = engines(architecture, filters, folder)
            for window, settings in WINDOWS.items():
                runs = {
                    engine: partial(outline, network, settings, image, folder)
                    for engine, network in networks.items()
                }
                in_turn(runs, 1)  # traces, and warms caches
                seconds = medians(in_turn(runs, arguments.repeats))
                rows.append({"network": architecture, "window": window, "seconds": seconds})
                print(rows[-1], flush=True)
    names = list(rows[0]["seconds"])
    lines = [
        f"One synthetic angiogram of {HEIGHT}x{WIDTH}, read, predicted, measured, outlined, all files",
        f"written; seconds, medians of {arguments.repeats}, the engines in turn.",
        "",
        f"| network at full width | window | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
        *(
            " | ".join(
                [f"| {r['network']}", r["window"], *(f"{r['seconds'][n]:.2f}" for n in names), ""]
            ).rstrip()
            for r in rows
        ),
    ]
    about = machine("keras", "tensorflow", "onnxruntime", "openvino")
    file = arguments.results / "prediction_latency"
    write_report(file, "From a file to its outlines", about, lines, {"rows": rows})


if __name__ == "__main__":
    main()
