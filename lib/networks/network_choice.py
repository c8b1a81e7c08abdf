"""The trained network that the command line chooses, in a form that another process can read too, and the
network that the repository ships.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.configuration.experiment_folder import Experiment
from lib.runtime.errors import UserError
from lib.runtime.keras_startup import start_keras
from lib.runtime.paths import PROJECT

if TYPE_CHECKING:
    from lib.networks.trained_network import TrainedNetwork

SHIPPED_NETWORK = PROJECT / "pretrained" / "cnp_ffa" / "cnp_ffa.onnx"
"""The trained network of the repository; it predicts if no experiment is named."""


MODEL_CARD, SHA256SUMS = "README.md", "SHA256SUMS"
"""Files in the folder of the shipped network; the second has the format of sha256sum."""


def shipped_network() -> Path | None:
    """The file of the shipped network, or None if this copy of the repository has none.

    Raises:
        UserError: the file is damaged, or Git has not downloaded it completely.
    """
    if not SHIPPED_NETWORK.is_file():
        return None
    sums = SHIPPED_NETWORK.with_name(SHA256SUMS)
    if not sums.is_file():
        raise UserError(f"{sums}: no such file; get the folder again: git restore {sums.parent}")
    # Not file_sha256: its module imports Pillow, which may be missing when scripts import this file.
    with SHIPPED_NETWORK.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if f"{found}  {SHIPPED_NETWORK.name}" not in sums.read_text(encoding="utf-8").splitlines():
        raise UserError(
            f"{SHIPPED_NETWORK}: damaged, or not downloaded completely: its SHA-256 is not that of "
            f"{sums.name}; get it again: git restore {SHIPPED_NETWORK.parent} (with Git LFS: git lfs pull)"
        )
    return SHIPPED_NETWORK


def described_shipped_network() -> str:
    """One line for the user: the name of the shipped network, and where its model card is."""
    card = SHIPPED_NETWORK.with_name(MODEL_CARD)
    shown = card.relative_to(Path.cwd()) if card.is_relative_to(Path.cwd()) else card
    return f"network: {SHIPPED_NETWORK.stem}, which comes with this repository; model card: {shown}"


@dataclass(frozen=True)
class NetworkChoice:
    """An ONNX file, the network of an experiment, or the ensemble of several experiments.

    Attributes:
        engine: the library that computes the network: "keras", "onnx" or "openvino".
        file: the ONNX file; None for Keras.
        experiments: folder and name of one or more experiments; of an ONNX file, the experiment that it must
            be an export of, if any.
        overrides: changes of settings, "section.key=value".
    """

    engine: str
    file: Path | None
    experiments: tuple[tuple[Path, str], ...]
    overrides: tuple[str, ...]

    def read(self) -> TrainedNetwork:
        """Read the network; start the library that computes it.

        Raises:
            UserError: as `read_onnx_network`, `refuse_outdated_export`, `read_keras_ensemble` or
                `read_keras_network`.
        """
        if self.file:
            # Only now: scripts import this file before they check that numpy is installed.
            from lib.networks.from_onnx import read_onnx_network, refuse_outdated_export

            network = read_onnx_network(self.file, self.overrides, self.engine)
            for member in self.experiments:
                refuse_outdated_export(self.file, network, Experiment(*member))
            return network
        start_keras()
        # Only now: it imports Keras.
        from lib.networks.from_experiments import read_keras_ensemble, read_keras_network

        members = [Experiment(*member) for member in self.experiments]
        if len(members) > 1:
            return read_keras_ensemble(members, self.overrides)
        return read_keras_network(members[0], self.overrides)[0]
