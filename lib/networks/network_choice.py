"""Which trained network the command line chooses, so that any process can read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.networks.trained_network import TrainedNetwork


@dataclass(frozen=True)
class NetworkChoice:
    """An ONNX file, an experiment's network, or the mean of several.

    Attributes:
        engine: what computes: "keras", "onnx" or "openvino".
        file: the ONNX file; None for Keras.
        experiments: folder and name of one or more.
        overrides: settings laid over theirs.
    """

    engine: str
    file: Path | None
    experiments: tuple[tuple[Path, str], ...]
    overrides: tuple[str, ...]

    def read(self) -> TrainedNetwork:
        """Load it, and the framework that computes it.

        Raises:
            UserError: as what reads it.
        """
        if self.file:
            from lib.networks.from_onnx import read_onnx_network

            return read_onnx_network(self.file, self.overrides, self.engine)
        from lib.runtime.keras_startup import start_keras

        start_keras()
        from lib.configuration.experiment_folder import Experiment
        from lib.networks.from_experiments import read_keras_ensemble, read_keras_network

        members = [Experiment(*member) for member in self.experiments]
        if len(members) > 1:
            return read_keras_ensemble(members, self.overrides)
        return read_keras_network(members[0], self.overrides)[0]
