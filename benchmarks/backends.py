"""Train, save, load and predict with every network under TensorFlow, JAX and PyTorch.

    python -m benchmarks.backends [--filters 8 16 16 16]

Each network is trained for one epoch under each backend, saved, loaded into a new network and
compared on one image. Then each backend loads the weights that TensorFlow saved, and the outputs for
images of three sizes are compared. Writes docs/results/backends.json and backends.md; the exit code is
1 if a difference is not below `TOLERANCE`.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measuring import machine, write_report
from lib.runtime.paths import PROJECT

BACKENDS = ("tensorflow", "jax", "torch")
SIZES = ((512, 512), (768, 768), (97, 61))
TOLERANCE = 1e-4


def image(size):
    return np.random.default_rng(0).random((1, *size, 1), dtype=np.float32)


def run_one_backend(backend: str, folder: Path, filters: list[int]) -> None:
    """Write `<architecture>_<backend>.npz` and `<backend>.json` into folder."""
    import keras  # after the backend is chosen

    import models

    def build(architecture, seed):
        keras.utils.set_random_seed(seed)
        return models.build(architecture, filters=filters, dropout=0.2)

    def predict(network, sizes=SIZES):
        return [network.predict(image(size), verbose=0) for size in sizes]

    figures = {"version": keras.__version__, "networks": {}}
    generator = np.random.default_rng(1)
    patches = generator.random((32, 48, 48, 1), dtype=np.float32)
    truth = (patches > 0.7).astype(np.float32)
    for architecture in models.ARCHITECTURES:
        network = build(architecture, seed=1)
        network.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy")
        loss = network.fit(patches, truth, batch_size=4, epochs=1, verbose=0).history["loss"][0]
        weights = folder / f"{architecture}_{backend}.weights.h5"
        network.save_weights(weights)
        loaded = build(architecture, seed=2)
        loaded.load_weights(weights)
        [before], [after] = predict(network, SIZES[-1:]), predict(loaded, SIZES[-1:])
        loaded.load_weights(folder / f"{architecture}_tensorflow.weights.h5")
        np.savez(folder / f"{architecture}_{backend}.npz", *predict(loaded))
        figures["networks"][architecture] = {
            "loss": loss,
            "difference_after_reload": float(np.abs(before - after).max()),
        }
        print(f"{backend:10} {architecture}", flush=True)
    (folder / f"{backend}.json").write_text(json.dumps(figures))


def compare(folder: Path, filters: list[int]) -> dict:
    """Collect the figures of all backends, with the largest difference from TensorFlow for each size."""
    figures = {backend: json.loads((folder / f"{backend}.json").read_text()) for backend in BACKENDS}
    for backend in BACKENDS:
        for architecture, row in figures[backend]["networks"].items():
            with (
                np.load(folder / f"{architecture}_tensorflow.npz") as expected,
                np.load(folder / f"{architecture}_{backend}.npz") as found,
            ):
                row["difference_from_tensorflow"] = {
                    f"{height}x{width}": float(np.abs(expected[key] - found[key]).max())
                    for (height, width), key in zip(SIZES, expected.files, strict=True)
                }
                row["shapes_as_expected"] = all(
                    found[key].shape == (1, *size, 1) for size, key in zip(SIZES, found.files, strict=True)
                )
    return {"filters": filters, "tolerance": TOLERANCE, "backends": figures}


def table(results: dict) -> list[str]:
    """A Markdown table with one row for each network and backend."""
    sizes = [f"{height}x{width}" for height, width in SIZES]
    lines = [
        f"Filters {' '.join(map(str, results['filters']))}, float32, on CPU.",
        "One epoch of 32 patches of 48x48, weights saved and loaded;",
        "then the weights saved under TensorFlow are loaded under each backend, and the outputs",
        "for three image sizes compared: largest absolute difference of the probabilities, which must",
        f"be below {TOLERANCE:g}.",
        "",
        f"| network | backend | loss | after reloading | {' | '.join(sizes)} |",
        "|---|---|---|---|" + "---|" * len(sizes),
    ]
    for architecture in results["backends"]["tensorflow"]["networks"]:
        for backend in BACKENDS:
            row = results["backends"][backend]["networks"][architecture]
            differences = [f"{row['difference_from_tensorflow'][size]:.1e}" for size in sizes]
            lines.append(
                f"| `{architecture}` | {backend} | {row['loss']:.3f} | "
                f"{row['difference_after_reload']:.0e} | {' | '.join(differences)} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filters", type=int, nargs="+", default=[8, 16, 16, 16])
    parser.add_argument("--backend", choices=BACKENDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.backend:
        run_one_backend(arguments.backend, arguments.folder, arguments.filters)
        return
    missing = [backend for backend in BACKENDS if importlib.util.find_spec(backend) is None]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; install with: pip install {' '.join(missing)}")

    with tempfile.TemporaryDirectory() as folder:
        for backend in BACKENDS:
            command = [sys.executable, __file__, "--backend", backend, "--folder", folder]
            command += ["--filters", *map(str, arguments.filters)]
            environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(PROJECT)}
            subprocess.run(command, env=environment, check=True)
        results = compare(Path(folder), arguments.filters)
    report = PROJECT / "docs" / "results" / "backends"
    about = machine("keras", *BACKENDS)
    write_report(report, "The same networks under three backends", about, table(results), results)
    rows = [row for found in results["backends"].values() for row in found["networks"].values()]
    differences = [max(row["difference_from_tensorflow"].values()) for row in rows]
    differences += [row["difference_after_reload"] for row in rows]
    if max(differences) >= TOLERANCE or not all(row["shapes_as_expected"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
