"""The trained network that the command line chooses, in a form that another process can read too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib.configuration.experiment_folder import Experiment
from lib.runtime.keras_startup import start_keras

if TYPE_CHECKING:
    from lib.networks.trained_network import TrainedNetwork


@dataclass(frozen=True)
class NetworkChoice:
    """An ONNX file, the network of an experiment, or the ensemble of several experiments.

    Attributes:
        engine: the library that computes the network: "keras", "onnx" or "openvino".
        file: the ONNX file; None for Keras.
        experiments: folder and name of one or more experiments.
        overrides: changes of settings, "section.key=value".
    """

    engine: str
    file: Path | None
    experiments: tuple[tuple[Path, str], ...]
    overrides: tuple[str, ...]

    def read(self) -> TrainedNetwork:
        """Read the network; start the library that computes it.

        Raises:
            UserError: as `read_onnx_network`, `read_keras_ensemble` or `read_keras_network`.
        """
        if self.file:
            # Only now: scripts import this file before they check that numpy is installed.
            from lib.networks.from_onnx import read_onnx_network

            return read_onnx_network(self.file, self.overrides, self.engine)
        start_keras()
        # Only now: it imports Keras.
        from lib.networks.from_experiments import read_keras_ensemble, read_keras_network

        members = [Experiment(*member) for member in self.experiments]
        if len(members) > 1:
            return read_keras_ensemble(members, self.overrides)
        return read_keras_network(members[0], self.overrides)[0]
