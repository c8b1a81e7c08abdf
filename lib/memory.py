"""Networks whose batches the memory, mostly a GPU's, does not hold."""

from collections.abc import Callable

import numpy as np

from lib.runtime.errors import UserError, is_out_of_memory


class HalvedBatches:
    """A network's `predict` that halves its batches, once, where memory is short of whole ones."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        self._predict, self._parts = predict, 1

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """As `predict`: (N, h, w, 1) float32 in [0, 1] to probabilities of the same shape.

        Raises:
            UserError: there is no memory for half a batch, or for a single image.
        """
        number, height, width, _ = images.shape
        parts = min(self._parts, number)
        try:
            return np.concatenate([self._predict(p) for p in np.array_split(images, parts)])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        at_once = f"{-(-number // parts)} of {width}x{height} pixels at once"
        if parts == min(2, number):
            raise UserError(
                f"not enough memory for {at_once}: lower [testing settings] test_batch_size, choose window "
                "= tiles with a smaller tile_size, or end other programs that use the memory"
            )
        print(f"not enough memory for {at_once}: batches are halved")
        self._parts = 2
        return self(images)
