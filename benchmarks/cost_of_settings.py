"""Time of a training step and of a prediction under the settings of a configuration, on this machine.

python -m benchmarks.cost_of_settings [--config FILE]
"""

import time

from lib.configuration.reading import read_configuration
from lib.runtime.command_line import script_parser
from lib.runtime.keras_startup import start_keras

STEPS = 5


def main() -> None:
    arguments = script_parser(__doc__).parse_args()
    configuration = read_configuration(arguments.config, arguments.overrides)
    start_keras()
    import numpy as np

    from lib.networks.keras_model import build_model
    from lib.prediction.sliding_window import predict_image
    from lib.training.compiled_model import compile_model

    settings, attributes = configuration.training_settings, configuration.data_attributes
    model = build_model(configuration)
    model = compile_model(model, settings, settings.steps)
    generator = np.random.default_rng(0)
    shape = (settings.fixed_batch_size, attributes.patch_height, attributes.patch_width)
    channels = len(configuration.preprocessing.channels)
    x = generator.random((*shape, channels), np.float32)
    y = generator.integers(2, size=(*shape, 2)).astype(np.float32)
    started = time.perf_counter()
    model.train_on_batch(x, y)
    print(f"first step, tracing included: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(x, y)
    rate = STEPS * settings.fixed_batch_size / (time.perf_counter() - started)
    hours = settings.N_subimgs / rate / 3600
    print(f"training: {rate:.1f} patches/s, {hours:.1f} h an epoch of {settings.N_subimgs}")
    image = generator.integers(256, size=(768, 768, channels), dtype=np.uint8)
    predict_image(model.predict_on_batch, image, configuration.testing_settings)
    started = time.perf_counter()
    predict_image(model.predict_on_batch, image, configuration.testing_settings)
    print(f"testing: {time.perf_counter() - started:.1f} s for an image of 768x768")


if __name__ == "__main__":
    main()
