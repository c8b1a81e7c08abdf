"""Training throughput, compared with `model.fit` on the same patches in memory, and peak memory.

Run `python prepare_datasets_FFA.py --config configurations/demo.txt --synthetic 16` first (make demo does).

    python -m benchmarks.training_throughput
"""

import argparse

from benchmarks.measuring import in_turn, machine, medians, run_process, write_report
from lib.configuration.reading import read_configuration
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

DEMO = PROJECT / "configurations" / "demo.txt"
RESULT = PROJECT / "docs" / "results" / "training_throughput"
REPEATS = 5
PATCHES = 3200
NETWORKS = {"enhance_laddernet": "16 32 64 128", "unet": "16 32 64 128"}


def throughput(architecture: str, filters: str) -> dict[str, float]:
    import numpy as np

    from lib.networks.keras_model import build_model
    from lib.training.callbacks import ProgressBar
    from lib.training.compiled_model import compile_model
    from lib.training.training_patches import PatchBatches, patch_sampler, training_images

    settings = [f"model.architecture={architecture}", f"model.filters={filters}"]
    settings.append(f"training settings.N_subimgs={PATCHES}")
    configuration = read_configuration(DEMO, settings)
    images = training_images(configuration)["train"]
    sampler = patch_sampler(configuration, images, truth_centred_share=0)
    training = configuration.training_settings
    model = compile_model(build_model(configuration), training, training.steps)
    patches = PatchBatches(configuration, images, sampler, 0)
    x, y = (np.concatenate(arrays) for arrays in zip(*(patches[i] for i in range(len(patches))), strict=True))
    size = training.batch_size
    bar = ProgressBar(training, 0)

    def ours() -> None:
        model.fit(patches, shuffle=False, verbose=0, callbacks=[bar])

    def in_memory() -> None:
        model.fit(x, y, batch_size=size, shuffle=False, verbose=0)

    runs = {"ours": ours, "in memory": in_memory}
    in_turn(runs, 1)  # traces
    rates = {name: PATCHES / taken for name, taken in medians(in_turn(runs, REPEATS)).items()}
    return rates | {"ratio": rates["ours"] / rates["in memory"]}


def memory_of_training(number: int) -> float:
    """Peak memory in MiB of run_training.py with `number` patches per epoch."""
    settings = ["model.architecture=unet", "model.filters=4 8", "training settings.N_epochs=1"]
    settings += [f"training settings.N_subimgs={number}", f"experiment name.name=memory_{number}"]
    command = ["run_training.py", "--config", str(DEMO), "--fresh"]
    return run_process([*command, *(w for setting in settings for w in ("--set", setting))])[1]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    memory = {number: memory_of_training(number) for number in (2000, 20000, 60000)}
    start_keras()
    rates = {name: throughput(name, filters) for name, filters in NETWORKS.items()}
    result = {"patches per second": rates, "peak memory in MiB": memory}
    lines = [
        f"Patches of 48x48, batch 32, {PATCHES} patches a run, median of {REPEATS} alternating runs.",
        "",
        "| network, filters | cut while training, patches/s | `model.fit` in memory, patches/s | ratio |",
        "|---|---|---|---|",
        *(
            f"| `{name}`, {NETWORKS[name]} | {r['ours']:.0f} | {r['in memory']:.0f} | {r['ratio']:.3f} |"
            for name, r in rates.items()
        ),
        "",
        "| N_subimgs | peak memory of run_training.py, MiB |",
        "|---|---|",
        *(f"| {number} | {peak:.0f} |" for number, peak in memory.items()),
    ]
    about = machine("keras", "tensorflow")
    write_report(RESULT, "Training throughput and memory", about, lines, result)


if __name__ == "__main__":
    main()
