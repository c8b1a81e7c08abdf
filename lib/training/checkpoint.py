"""The whole state of a training after an epoch, in one file that appears whole."""

import json
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from lib.training.early_stopping import TrainingState


def previous(file: Path) -> Path:
    """Where the checkpoint of the epoch before is kept."""
    return file.with_name(f"{file.stem}_before{file.suffix}")


def is_there(file: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return file.is_file() or previous(file).is_file()


def keep_previous(file: Path) -> None:
    """Set the checkpoint aside, to fall back on should the next one be torn."""
    if file.is_file():
        file.replace(previous(file))


def save_checkpoint(file: Path, model: keras.Model, state: TrainingState) -> None:
    """Save weights, dropout's random state, the optimizer's state and `state`.

    `.weights.h5` leaves out the random state, without which a resumed training differs.
    """
    arrays = {
        f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(model))
    }
    with written_atomically(file) as (beside,), beside.open("wb") as stream:
        np.savez(
            stream, state=np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8), **arrays
        )


def load_checkpoint(file: Path, model: keras.Model) -> TrainingState:
    """Set every variable of the compiled `model` from `file`; returns the state.

    Where the file is torn the one before is taken.

    Raises:
        UserError: both are torn, or do not fit the network.
    """
    try:
        state, arrays = _read(file)
    except Exception as error:  # a torn file fails in any way
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            state, arrays = _read(previous(file))
        except Exception:
            raise _unfit(file, why) from None
        print(f"{file}: torn or missing ({why}); going on from the epoch before")
    variables = _variables(model)
    shapes, wanted = [a.shape for a in arrays], [tuple(v.shape) for v in variables]
    if shapes != wanted:
        raise _unfit(file, "the network has other weights")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return state


def _read(file: Path) -> tuple[TrainingState, list[np.ndarray]]:
    # np.load checks each part's CRC-32.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
        state = TrainingState(**json.loads(content["state"].tobytes()))
        return state, [content[f"variable_{i}"] for i in range(len(content.files) - 1)]


def _variables(model: keras.Model) -> list[keras.Variable]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _unfit(file: Path, why: str) -> UserError:
    return UserError(f"{file}: cannot go on from this checkpoint ({why}); start anew with --fresh")
