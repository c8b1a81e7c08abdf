"""Training and inference of retina_unet and laddernet, compared with the same networks in plain PyTorch.

    python -m benchmarks.training_against_pytorch --torch-python PYTHON

PYTHON is an interpreter with PyTorch (CPU); without it only ours is measured. Batches of 32 patches of 48x48,
Adam, binary cross-entropy. Ours trains as run_training.py does: it cuts patches during the training and
measures accuracy. PyTorch gets patches from memory and measures nothing. Ours predicts as run_testing.py
does, with batch normalisation and the doubling of pixels folded into the convolutions; PyTorch keeps its
modules as trained.
"""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Claim, benchmark_parser, in_turn, machine, write_report
from benchmarks.pytorch_process import PyTorch
from lib.configuration.reading import Configuration, read_configuration
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

FORMATS = ("contiguous_format", "channels_last")
BATCH = 32  # as in the configuration, and in pytorch_networks.py
AUTHORS = "laddernet, its authors' bottom"
FILTERS = {"retina_unet": "32 64 128", "laddernet": "10 20 40 80", AUTHORS: "10 20 40 80 160"}
ORIGINAL_RATE = 65
"""Patches/s of a training with retina-unet's software (Keras 2, TensorFlow 1.15), 2 cores of an AMD EPYC."""


def configured(name: str, steps: int) -> Configuration:
    settings = [f"model.architecture={name.split(',')[0]}", f"model.filters={FILTERS[name]}"]
    settings += ["training settings.optimizer=adam", "training settings.learning_rate=0.001"]
    settings.append(f"training settings.N_subimgs={steps * BATCH}")
    settings.append(f"model.dropout={0.2 if name == 'retina_unet' else 0.25}")
    return read_configuration(PROJECT / "configurations" / "drive_retina_unet.txt", settings)


def laddernet_of_its_authors(filters, dropout: float):
    """LadderNet with twice the width at the bottom; `models` has the width of the lowest level there."""
    from keras import layers

    from models import blocks

    convolution = partial(blocks.convolution, batch_normalisation=True)
    shared_block = partial(blocks.shared_block, dropout=dropout, batch_normalisation=True)

    def one_u(x, previous=()):
        skips, decoded = [], []
        for level, width in enumerate(filters[1:]):
            if previous and level:
                x = layers.Add()([x, previous[level]])
            skips.append(shared_block(x))
            x = convolution(skips[-1], width, strides=2)
        x = shared_block(x)
        for skip in reversed(skips):
            x = layers.Conv2DTranspose(skip.shape[-1], 3, strides=2, padding="same")(x)
            x = shared_block(layers.Add()([x, skip]))
            decoded.append(x)
        return decoded[::-1]

    image, x = blocks.padded_input(2 ** (len(filters) - 1), 1)
    first = one_u(convolution(x, filters[0]))
    return blocks.segmentation_model(image, one_u(first[0], first)[0], "laddernet")


def training_images() -> list:
    from lib.datasets.synthetic_angiograms import synthetic_angiogram
    from lib.training.patch_sampler import TrainingImage

    drawn = [synthetic_angiogram(1, index) for index in range(3)]
    return [TrainingImage("", one.image[..., None], one.non_perfusion, one.field_of_view) for one in drawn]


def ours(name: str, images: list, steps: int) -> tuple[dict[str, Callable], int]:
    """Return the calls of training and inference, and the number of trainable parameters."""
    from lib.networks.keras_model import build_model
    from lib.training.callbacks import ProgressBar, StopAtNonFiniteLoss
    from lib.training.compiled_model import compile_model
    from lib.training.training_patches import PatchBatches, patch_sampler
    from models.folding import fold_for_prediction

    configuration = configured(name, steps)
    settings = configuration.training_settings
    if name == AUTHORS:
        filters = configuration.model.filters
        model = laddernet_of_its_authors(filters, configuration.model.dropout)
    else:
        model = build_model(configuration)
    # Before compiling, as in run_testing.py: a clone would copy the loss.
    ready = fold_for_prediction(model)
    compiled = compile_model(model, settings, settings.steps)
    sampler = patch_sampler(configuration, images, truth_centred_share=0)
    patches = PatchBatches(configuration, images, sampler, 0)
    callbacks = [StopAtNonFiniteLoss(patches, 1, Path()), ProgressBar(settings, 0)]
    x, _ = patches[0]

    def infer() -> None:
        for _ in range(steps):
            np.asarray(ready.predict_on_batch(x))

    def train() -> None:
        compiled.fit(patches, shuffle=False, verbose=0, callbacks=callbacks)

    return {"training": train, "inference": infer}, sum(
        int(np.prod(w.shape)) for w in model.trainable_weights
    )


def measured(name: str, images: list, steps: int, repeats: int, pytorch: PyTorch | None) -> dict:
    """Measure patches/s of every run, by kind of work and candidate."""
    runs, parameters = ours(name, images, steps)
    if pytorch and (theirs := pytorch.ask("about")["parameters"][name]) != parameters:
        raise SystemExit(f"{name}: {parameters} parameters, {theirs}")
    rates = {"parameters": parameters}
    for work, run in runs.items():
        candidates = {"ours": run}
        for memory_format in FORMATS if pytorch else ():
            request = {"network": name, "memory_format": memory_format, "work": work, "steps": steps}
            candidates[f"PyTorch, {memory_format}"] = partial(pytorch.ask, request)
        in_turn(candidates, 1)  # traces, and warms caches
        seconds = in_turn(candidates, repeats)
        rates[work] = {c: [steps * BATCH / s for s in taken] for c, taken in seconds.items()}
        print(name, work, {c: round(statistics.median(r)) for c, r in rates[work].items()})
    return rates


def claims(results: dict) -> list[Claim]:
    """Claims by the median, compared with the faster memory format."""

    def rate(name: str, work: str = "training", candidate: str = "ours") -> float:
        return statistics.median(results[name][work][candidate])

    def ratio(name: str, work: str) -> float:
        return rate(name, work) / max(rate(name, work, f"PyTorch, {f}") for f in FORMATS)

    what = "training `retina_unet` against retina-unet's own stack"
    found = [Claim(what, rate("retina_unet") / ORIGINAL_RATE, 2.5, "x", at_least=True)]
    if len(results["retina_unet"]["training"]) == 1:
        return found
    for name in FILTERS:
        for work in ("training", "inference"):
            limit = 1.3 if (name, work) == ("retina_unet", "training") else 1.0
            what = f"{work} `{name}` ({FILTERS[name]}) against the faster PyTorch"
            found.append(Claim(what, ratio(name, work), limit, "x", at_least=True))
    return found


def table(results: dict) -> list[str]:
    lines = ["| network | parameters | work | | median, patches/s | best |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        for work in ("training", "inference"):
            lines += [
                f"| `{name}`, {FILTERS[name]} | {found['parameters']:,} | {work} | {candidate} "
                f"| {statistics.median(rates):.0f} | {max(rates):.0f} |"
                for candidate, rates in found[work].items()
            ]
    return lines


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--torch-python", type=Path, metavar="PYTHON")
    parser.add_argument("--patches", type=int, default=1920, help="in a window, which is an epoch")
    arguments = parser.parse_args()
    steps = arguments.patches // BATCH
    start_keras()
    about = machine("keras", "tensorflow")
    pytorch = None
    if arguments.torch_python and arguments.torch_python.is_file():
        pytorch = PyTorch(arguments.torch_python, "pytorch_networks.py")
        about["versions"]["torch"] = pytorch.ask("about")["version"]
    else:
        print("no --torch-python: ours are measured alone")
    images = training_images()
    results = {name: measured(name, images, steps, arguments.repeats, pytorch) for name in FILTERS}
    if pytorch:
        pytorch.close()
    lines = [
        f"Batches of {BATCH} patches of 48x48; {arguments.repeats} windows of {arguments.patches}, in turn.",
        "The same layers and parameters on both sides. PyTorch has its default threads and allocator.",
        "In inference ours has batch normalisation and the doubling of pixels folded into the convolutions, "
        "as run_testing.py has; PyTorch's modules are as trained.",
        f"retina-unet's own stack: {ORIGINAL_RATE} patches/s on an AMD EPYC (Zen 5); on another one the "
        "first claim compares two machines.",
        "",
        *table(results),
    ]
    file = arguments.results / "training_against_pytorch"
    write_report(file, "Against PyTorch", about, lines, results, claims(results))


if __name__ == "__main__":
    main()
