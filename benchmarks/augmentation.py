"""Time of augmentation as a share of the time of a training step, on this machine.

    python -m benchmarks.augmentation

Eight patches of 128x128 with three channels, all changes of section [augmentation], `unet` of 16 32 64 128.
A training makes the next patches in other threads, so that it can lose less time than this share.
"""

import argparse
import statistics

from benchmarks.measuring import in_turn
from lib.configuration.reading import read_configuration
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import DEFAULT_CONFIGURATION

REPEATS = 9
SHAPE = (8, 128, 128)
LARGEST_SHARE = 0.2

CHANNELS = ("grey", "local_contrast", "texture")
SETTINGS = [
    f"preprocessing.channels={' '.join(CHANNELS)}",
    "model.architecture=unet",
    "model.filters=16 32 64 128",
    "training settings.batch_size=8",
]
SETTINGS += [f"augmentation.{name}=True" for name in ("flip_horizontal", "flip_vertical", "rotate_90")]
SETTINGS += [
    f"augmentation.{setting}"
    for setting in (
        "gamma_jitter=0.2",
        "contrast_jitter=0.2",
        "rotation=180",
        "scale=0.2",
        "shear=0.1",
        "shift=0.1",
        "elastic=0.02",
        "illumination=0.3",
        "blur=1.5",
        "noise=0.05",
    )
]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    configuration = read_configuration(DEFAULT_CONFIGURATION, SETTINGS)
    start_keras()
    import numpy as np

    from lib.networks.keras_model import build_model
    from lib.training.augmentation import augment
    from lib.training.compiled_model import compile_model

    generator = np.random.default_rng(0)
    x = generator.random((*SHAPE, len(CHANNELS)), np.float32)
    y = generator.integers(2, size=(*SHAPE, 2)).astype(np.uint8)
    intensity = np.ones(len(CHANNELS), bool)
    model = compile_model(build_model(configuration), configuration.training_settings, steps=1)

    runs = {
        "augmentation": lambda: augment(x, y, configuration.augmentation, generator, intensity),
        "step": lambda: model.train_on_batch(x, y.astype(np.float32)),
    }
    in_turn(runs, 2)  # traces
    seconds = in_turn(runs, REPEATS)
    shares = [a / b for a, b in zip(seconds["augmentation"], seconds["step"], strict=True)]
    for name, found in seconds.items():
        print(f"{name}: {1000 * statistics.median(found):.1f} ms, median of {REPEATS}")
    share = statistics.median(shares)
    print(f"share: {share:.3f}, from {min(shares):.3f} to {max(shares):.3f}; wanted: below {LARGEST_SHARE}")


if __name__ == "__main__":
    main()
