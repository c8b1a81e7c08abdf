"""Checkpoint: the whole state of a training after an epoch, in one file that is complete or absent."""

import json
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from lib.runtime.atomic_files import written_atomically
from lib.runtime.errors import UserError
from lib.training.early_stopping import TrainingState


def previous_checkpoint(file: Path) -> Path:
    """The file with the checkpoint of the epoch before."""
    return file.with_name(f"{file.stem}_before{file.suffix}")


def checkpoint_exists(file: Path) -> bool:
    """Whether a training can continue: there is a checkpoint of the last epoch or of the one before."""
    return file.is_file() or previous_checkpoint(file).is_file()


def keep_previous_checkpoint(file: Path) -> None:
    """Rename the checkpoint before a new one takes its name; it is used if the new one is damaged."""
    if file.is_file():
        file.replace(previous_checkpoint(file))


def save_checkpoint(file: Path, model: keras.Model, state: TrainingState) -> None:
    """Save the weights, the random state of dropout, the state of the optimizer, and `state`.

    Keras' `.weights.h5` files lack the random state: a training that continues from them gives other numbers.

    Raises:
        UserError: the file cannot be written.
    """
    arrays = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(model))}
    with written_atomically(file) as (beside,), beside.open("wb") as stream:
        np.savez(stream, state=np.frombuffer(json.dumps(asdict(state)).encode(), np.uint8), **arrays)


def load_checkpoint(file: Path, model: keras.Model) -> TrainingState:
    """Set all variables of the compiled `model`; return the state.

    If `file` is damaged or missing, the checkpoint of the epoch before is used. `file` is removed then, so
    that it does not take the place of the good one when the next is written.

    Raises:
        UserError: both are damaged, or belong to another network.
    """
    try:
        state, arrays = _read(file)
    except Exception as error:  # a damaged file can raise any error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            state, arrays = _read(previous_checkpoint(file))
        except Exception:
            raise _unusable(file, reason) from None
        print(f"{file}: damaged or missing ({reason}); using the checkpoint of the epoch before")
        file.unlink(missing_ok=True)
    variables = _variables(model)
    shapes, expected = [a.shape for a in arrays], [tuple(v.shape) for v in variables]
    if shapes != expected:
        raise _unusable(file, "the network has other weights")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return state


def _read(file: Path) -> tuple[TrainingState, list[np.ndarray]]:
    # np.load compares the CRC-32 of each array.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
        state = TrainingState(**json.loads(content["state"].tobytes()))
        return state, [content[f"variable_{i}"] for i in range(len(content.files) - 1)]


def _variables(model: keras.Model) -> list[keras.Variable]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _unusable(file: Path, reason: str) -> UserError:
    return UserError(
        f"{file}: the training cannot continue from this checkpoint ({reason}); start again with --fresh"
    )
