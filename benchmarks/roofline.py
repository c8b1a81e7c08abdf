"""Speed of the networks' forward pass, compared with the fastest 3x3 convolution of this machine.

    python -m benchmarks.roofline

Measures in turn, in float32 and in mixed_bfloat16: forward passes of an angiogram, chains of 3x3 convolutions
of several widths and sizes, and all steps from the file of an angiogram to its probabilities. FLOPs are those
of `models.cost`: two for each multiply-add in convolutions and attention.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, medians, write_report
from benchmarks.prediction_latency import on_keras
from lib.runtime.keras_startup import start_keras

NETWORKS = {"enhance_laddernet": "64 128 256 512", "ldpc_net": "64 128 256", "retina_unet": "32 64 128"}
ROWS, COLUMNS = 868, 768
# Images, rows, columns, channels: the levels of a network on an angiogram, and on patches.
CONVOLUTIONS = (
    (1, 384, 440, 64),
    (1, 192, 220, 128),
    (1, 96, 110, 256),
    (1, 48, 55, 512),
    (32, 48, 48, 64),
    (32, 24, 24, 128),
)
CHAIN = 12
PRECISIONS = {"float32": 6.0, "mixed_bfloat16": 3.5}
"""The limit in seconds for full-width Enhance LadderNet on an angiogram, for each precision."""
FULL_WIDTH = "enhance_laddernet"


def convolutions(images: int, rows: int, columns: int, channels: int):
    """Build a chain of 3x3 convolutions with little input and output; return its call and GFLOP."""
    import keras
    from keras import layers

    chain = keras.Sequential([keras.Input((rows, columns, channels))])
    for _ in range(CHAIN):
        chain.add(layers.Conv2D(channels, 3, padding="same", use_bias=False))
    chain.add(layers.GlobalMaxPooling2D())
    shape = (images, rows, columns, channels)
    generator = np.random.default_rng(0)
    x = keras.ops.convert_to_tensor(generator.standard_normal(shape, np.float32))
    flops = 2 * CHAIN * images * rows * columns * 9 * channels**2
    return lambda: chain.predict_on_batch(x), flops / 1e9


def forward_pass(model, rows: int, columns: int):
    """Return the call of a network's forward pass of one image, and its GFLOP."""
    from models.cost import multiply_adds

    image = np.random.default_rng(0).random((1, rows, columns, 1), np.float32)
    return lambda: model.predict_on_batch(image), 2 * multiply_adds(model, rows, columns) / 1e9


def measured(precision: str, shape: tuple[int, int], image: Path, repeats: int) -> dict:
    """Measure seconds and GFLOP/s of all candidates in one precision."""
    import keras

    from lib.prediction.image_file import predict_file

    runs, gflop = {}, {}
    for architecture, filters in NETWORKS.items():
        _, model, network = on_keras(architecture, filters, precision)
        runs[architecture], gflop[architecture] = forward_pass(model, *shape)
        if architecture == FULL_WIDTH:
            settings = dataclasses.replace(network.testing_settings, window="whole")
            network = dataclasses.replace(network, testing_settings=settings)
            runs["from file"] = lambda network=network: predict_file(network, image)
    for size in CONVOLUTIONS:
        name = "x".join(map(str, size))
        runs[name], gflop[name] = convolutions(*size)
    keras.config.set_dtype_policy("float32")
    in_turn(runs, 1)  # traces
    seconds = medians(in_turn(runs, repeats))
    rates = {name: gflop[name] / seconds[name] for name in gflop}
    best = max(rate for name, rate in rates.items() if name not in NETWORKS)
    share = {name: rates[name] / best for name in NETWORKS}
    return {"gflop": gflop, "seconds": seconds, "rates": rates, "best": best, "share": share}


def table(results: dict) -> list[str]:
    lines = ["| | GFLOP | s | GFLOP/s | best 3x3 convolution, GFLOP/s | share |", "|---|---|---|---|---|---|"]
    for precision, found in results.items():
        lines += [
            f"| `{n}`, {precision} | {found['gflop'][n]:.0f} | {found['seconds'][n]:.2f} "
            f"| {found['rates'][n]:.0f} | {found['best']:.0f} | {found['share'][n]:.0%} |"
            for n in NETWORKS
        ]
    lines += ["", f"| 3x3 convolutions, GFLOP/s | {' | '.join(results)} |"]
    lines.append("|---|" + "---|" * len(results))
    for size in CONVOLUTIONS:
        name = "x".join(map(str, size))
        rates = [f"{found['rates'][name]:.0f}" for found in results.values()]
        lines.append(f"| {name} | {' | '.join(rates)} |")
    return lines


def claims(results: dict) -> list[Claim]:
    found = []
    for precision, limit in PRECISIONS.items():
        result, of = results[precision], f"full-width `{FULL_WIDTH}`, {precision}"
        share, seconds = result["share"][FULL_WIDTH], result["seconds"]["from file"]
        found.append(Claim(f"share of the roofline, {of}", share, 0.7, at_least=True))
        found.append(Claim(f"from an angiogram's file to probabilities, {of}", seconds, limit, "s"))
    return found


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(ROWS, COLUMNS))
    arguments = parser.parse_args()
    start_keras()
    from lib.datasets.synthetic_angiograms import synthetic_angiogram
    from lib.images.png import write_png

    rows, columns = arguments.size
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "angiogram.png"
        write_png(image, synthetic_angiogram(1, 0, max(rows, columns)).image[:rows, :columns])
        results = {p: measured(p, (rows, columns), image, arguments.repeats) for p in PRECISIONS}
    lines = [
        f"Forward pass of one image of {rows}x{columns} against chains of {CHAIN} convolutions without",
        "anything between (images x rows x columns x channels below); medians of "
        f"{arguments.repeats}, all in turn.",
        "",
        *table(results),
    ]
    about = machine("keras", "tensorflow")
    file = arguments.results / "roofline"
    write_report(file, "The roofline", about, lines, results, claims(results))


if __name__ == "__main__":
    main()
