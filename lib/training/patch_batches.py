"""Training and validation patches as Keras asks for them, batch by batch."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from lib.configuration.sections import Augmentation
from lib.images.preprocessing import network_input
from lib.training.augmentation import augment
from lib.training.patch_sampler import Corners, TrainingImage, cut_patches


class PatchBatches(keras.utils.PyDataset):
    """Batches of patches, cut from images in memory when they are asked for.

    A batch is `(x, y)`: `x` (N, h, w, 1) float32 in [0, 1]; `y` (N, h, w, 2) float32, the truth and the
    weight of each pixel in the loss. Batch `i` depends on the seed and `i` alone, so that any thread may
    make it and a resumed epoch sees the same batches.

    Args:
        images: at least as large as a patch.
        corners: of all patches of the epoch, in order.
        patch: height and width.
        batch_size: of all batches but the last.
        loss_in_FOV: weigh pixels outside the field of view 0.
        augmentation: how patches are changed at random; None leaves them as they are.
        seed: of the augmentation.
        share: the number, from 0, of this process among those that train together, and how many they
            are; each is given its part of every batch.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        corners: Corners,
        patch: tuple[int, int],
        batch_size: int,
        *,
        loss_in_FOV: bool = False,
        augmentation: Augmentation | None = None,
        seed: Sequence[int] = (0,),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self._names = [i.name for i in images]
        self._levels = [i.levels for i in images]
        self._aligned = [[i.truth for i in images], [i.field_of_view for i in images]]
        self._corners, self._patch, self.batch_size = corners, patch, batch_size
        self._loss_in_FOV, self._augmentation, self._seed = loss_in_FOV, augmentation, seed
        self._share = share

    def __len__(self) -> int:
        return math.ceil(len(self._corners) / self.batch_size)

    def _batch(self, index: int) -> Corners:
        return self._corners[index * self.batch_size : (index + 1) * self.batch_size]

    def names(self, index: int) -> list[str]:
        """The images that batch `index` is cut from, each once."""
        return sorted({self._names[image] for image in self._batch(index).image})

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        here = self._batch(index)
        x = network_input(cut_patches(self._levels, here, *self._patch))
        y = np.stack([cut_patches(arrays, here, *self._patch) for arrays in self._aligned], axis=-1)
        if self._augmentation:
            generator = np.random.default_rng([*self._seed, index])
            x, y = augment(x, y, self._augmentation, generator)
        if not self._loss_in_FOV:
            y[..., 1] = 1
        number, of = self._share
        part = slice(len(x) * number // of, len(x) * (number + 1) // of)
        return x[part, ..., None], y[part].astype(np.float32)
