"""Where the time of a training step goes, compared with the fastest 3x3 convolution of this machine.

    python -m benchmarks.training_roofline

Measures in turn, for full-width Enhance LadderNet in float32: a training step on patches of 48x48; its parts
(forward pass, backward pass, optimizer); each convolution of the network alone, forward and backward; and
chains of 3x3 convolutions, forward and backward. FLOPs are those of `models.cost`, times three: the backward
pass of a convolution computes the gradients of its input and of its kernel.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, medians, write_report
from lib.runtime.keras_startup import start_keras

ARCHITECTURE = "enhance_laddernet"
SIDE = 48
BATCHES = (4, 32)
CHAIN = 6
LEVELS = ((48, 64), (24, 128), (12, 256), (6, 512))
"""Side of the patch and number of channels at each level of the network."""


def step_and_parts(batch: int) -> tuple[dict[str, Callable[[], object]], float]:
    """The training step and its parts, and its GFLOP."""
    import tensorflow as tf  # noqa: TID251 (this benchmark measures its gradients)

    from lib.configuration.reading import read_configuration
    from lib.networks.keras_model import build_model
    from lib.runtime.paths import DEFAULT_CONFIGURATION
    from lib.training.compiled_model import compile_model
    from models.cost import multiply_adds

    configuration = read_configuration(DEFAULT_CONFIGURATION, [f"model.architecture={ARCHITECTURE}"])
    network = build_model(configuration)
    gflop = 3 * 2 * batch * multiply_adds(network, SIDE, SIDE) / 1e9
    model = compile_model(network, configuration.training_settings, steps=1)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.random((batch, SIDE, SIDE, 1), np.float32))
    y = tf.constant(generator.integers(0, 2, (batch, SIDE, SIDE, 1)).astype(np.float32))
    weights = model.trainable_variables

    def loss():
        return tf.reduce_mean(model.loss(y, model(x, training=True)))

    def gradients():
        with tf.GradientTape() as tape:
            found = loss()
        return tape.gradient(found, [weight.value for weight in weights])

    constant_gradients = [tf.zeros(weight.shape) for weight in weights]
    runs = {
        "whole step": lambda: model.train_on_batch(x, y),
        "forward": tf.function(loss),
        "forward and backward": tf.function(gradients),
        "optimizer": tf.function(lambda: model.optimizer.apply(constant_gradients, weights)),
    }
    return runs, gflop


def single_convolutions(batch: int) -> tuple[dict[str, Callable[[], object]], Counter]:
    """Forward and backward pass of each different convolution, and how often the network has it."""
    from keras import layers

    from lib.configuration.reading import read_configuration
    from lib.networks.keras_model import build_model
    from lib.runtime.paths import DEFAULT_CONFIGURATION
    from models.cost import applications

    model = build_model(read_configuration(DEFAULT_CONFIGURATION, [f"model.architecture={ARCHITECTURE}"]))
    runs: dict[str, Callable[[], object]] = {}
    number: Counter = Counter()
    for call in applications(model, SIDE, SIDE):
        if isinstance(call.layer, layers.Conv2D | layers.Conv2DTranspose):
            name = f"{type(call.layer).__name__} {call.layer.kernel.shape} on {call.shape_in[1:]}"
            number[name] += 1
            if name not in runs:
                runs[name] = forward_and_backward([call.layer], (batch, *call.shape_in[1:]))
    return runs, number


def forward_and_backward(chain: list, shape: tuple[int, ...]) -> Callable[[], object]:
    """The outputs of layers one after the other, and the gradients of the input and of all weights."""
    import tensorflow as tf  # noqa: TID251 (this benchmark measures its gradients)

    x = tf.constant(np.random.default_rng(0).standard_normal(shape, np.float32))

    def run():
        weights = [weight.value for layer in chain for weight in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for layer in chain:
                y = layer(y)
        # The gradient of the output is the output, which no step can leave out.
        return tape.gradient(y, [x, *weights], output_gradients=y)

    return tf.function(run)


def chains(batch: int) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """Chains of 3x3 convolutions of each level, forward and backward, and their GFLOP."""
    from keras import layers

    runs, gflop = {}, {}
    for side, channels in LEVELS:
        shape = (batch, side, side, channels)
        chain = [layers.Conv2D(channels, 3, padding="same", use_bias=False) for _ in range(CHAIN)]
        for layer in chain:
            layer.build(shape)
        name = "x".join(map(str, shape))
        runs[name] = forward_and_backward(chain, shape)
        gflop[name] = 3 * 2 * CHAIN * 9 * channels**2 * batch * side**2 / 1e9
    return runs, gflop


def measured(batch: int, repeats: int) -> dict:
    """Median seconds and GFLOP/s for one size of the batch."""
    steps, gflop = step_and_parts(batch)
    singles, number = single_convolutions(batch)
    roofs, gflop_of = chains(batch)
    runs = steps | singles | roofs
    in_turn(runs, 1)  # traces
    seconds = medians(in_turn(runs, repeats))
    rates = {name: gflop_of[name] / seconds[name] for name in roofs}
    whole, best = seconds["whole step"], max(rates.values())
    convolutions = sum(seconds[name] * number[name] for name in singles)
    return {
        "gflop": gflop,
        "seconds": {name: seconds[name] for name in steps},
        "convolutions alone": convolutions,
        "rate": gflop / whole,
        "rate of the convolutions alone": gflop / convolutions,
        "chains": rates,
        "share": gflop / whole / best,
    }


def table(results: dict[str, dict]) -> list[str]:
    """Seconds, shares of the step and rates of each size of the batch."""
    rows = {
        "training step, s": lambda r: f"{r['seconds']['whole step']:.2f}",
        "its GFLOP/s": lambda r: f"{r['rate']:.0f}",
        "**share of the best chain**": lambda r: f"**{r['share']:.0%}**",
        "forward pass": lambda r: _share(r, r["seconds"]["forward"]),
        "backward pass": lambda r: _share(r, r["seconds"]["forward and backward"] - r["seconds"]["forward"]),
        "optimizer": lambda r: _share(r, r["seconds"]["optimizer"]),
        "all convolutions, each alone, forward and backward": lambda r: _share(r, r["convolutions alone"]),
        "their GFLOP/s": lambda r: f"{r['rate of the convolutions alone']:.0f}",
    }
    lines = [f"| | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    lines += [f"| {name} | {' | '.join(map(cell, results.values()))} |" for name, cell in rows.items()]
    for level, (side, channels) in enumerate(LEVELS):
        rates = [f"{list(r['chains'].values())[level]:.0f}" for r in results.values()]
        name = f"chain of {CHAIN} convolutions, {channels} channels, {side}x{side}, GFLOP/s"
        lines.append(f"| {name} | {' | '.join(rates)} |")
    return lines


def _share(result: dict, seconds: float) -> str:
    return f"{seconds:.2f} s, {seconds / result['seconds']['whole step']:.0%} of the step"


def main() -> None:
    parser = benchmark_parser(__doc__, repeats=3)
    arguments = parser.parse_args()
    start_keras()
    results = {f"batch {batch}": measured(batch, arguments.repeats) for batch in BATCHES}
    claims = [
        Claim(f"share of the roofline, training `{ARCHITECTURE}`, {name}", r["share"], 0.75, at_least=True)
        for name, r in results.items()
    ]
    lines = [
        f"Full-width `{ARCHITECTURE}`, patches of {SIDE}x{SIDE}, float32; "
        f"medians of {arguments.repeats}, all in turn.",
        "",
        *table(results),
    ]
    about = machine("keras", "tensorflow")
    write_report(
        arguments.results / "training_roofline", "The roofline of training", about, lines, results, claims
    )


if __name__ == "__main__":
    main()
