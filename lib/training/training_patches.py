"""Training and validation patches: from the prepared images to the batches that Keras trains on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from lib.configuration.reading import Configuration
from lib.configuration.sections import Augmentation
from lib.datasets.prepared_hdf5 import read_part
from lib.images.preprocessing import network_input, preprocess
from lib.runtime.errors import UserError
from lib.training.augmentation import augment
from lib.training.data_parallel import process_count, process_index
from lib.training.patch_sampler import Corners, PatchSampler, TrainingImage, cut_patches

# The seed of a random generator is [seed, purpose, epoch]. These are the purposes.
TRAINING, AUGMENTATION, FIXED = range(3)


def refuse_unprepared(configuration: Configuration) -> None:
    """Check that the prepared data are there.

    Raises:
        UserError: the data are not prepared, or a part is missing.
    """
    paths = configuration.data_paths
    split = paths.path_local / "split.json"
    if not split.is_file():
        raise UserError(
            f"{split}: no such file; run prepare_datasets_FFA.py (or prepare_datasets_vessels.py) first"
        )
    by_images = configuration.training_settings.validation == "images"
    for part in ("train", "validation") if by_images else ("train",):
        if not paths.hdf5(part)[0].is_file():
            raise UserError(
                f"{paths.path_local} has no {part} part, which the training needs: prepare again with "
                "another [preparation] split_ratio"
            )


def training_images(configuration: Configuration) -> dict[str, list[TrainingImage]]:
    """The images of the parts "train" and "validation".

    `validation = patches` is the rule of retina-unet: patches are in the order of their images, and the last
    tenth of them validates (`validation_split` of Keras). So the last tenth of the images validates, and an
    image that is partly in this tenth also trains.
    """
    paths = configuration.data_paths
    if configuration.training_settings.validation == "images":
        return {part: _read_images(configuration, part) for part in ("train", "validation")}
    pooled = [
        image
        for part in ("train", "validation")
        if paths.hdf5(part)[0].is_file()
        for image in _read_images(configuration, part)
    ]
    first_validating, first_not_training = bounds_of_the_last_tenth(len(pooled))
    return {"train": pooled[:first_not_training], "validation": pooled[first_validating:]}


def bounds_of_the_last_tenth(number: int) -> tuple[int, int]:
    """Index of the first of `number` images that validates, and of the first that does not train."""
    return number - math.ceil(number / 10), number - math.floor(number / 10)


def patch_sampler(
    configuration: Configuration, images: list[TrainingImage], *, truth_centred_share: float
) -> PatchSampler:
    """A sampler for patches of the configured size."""
    attributes = configuration.data_attributes
    return PatchSampler(
        images,
        attributes.patch_height,
        attributes.patch_width,
        inside_FOV=configuration.training_settings.inside_FOV,
        truth_centred_share=truth_centred_share,
    )


class PatchBatches(keras.utils.PyDataset):
    """Batches of patches, which are cut from images in memory when Keras needs them.

    A batch is `(x, y)`: `x` (N, h, w, 1) float32 in [0, 1]; `y` (N, h, w, 2) float32, the truth and the
    weight of each pixel in the loss. Batch `i` depends only on the seed and `i`, so that any thread can make
    it and a resumed training gets the same batches.

    Args:
        images: images that are at least as large as a patch.
        corners: the corners of all patches of the epoch, in order.
        patch: height and width of a patch.
        batch_size: number of patches in a batch, of all processes together.
        loss_in_FOV: give pixels outside the field of view the weight 0.
        augmentation: how patches are changed at random; None: not at all.
        seed: the seed of the augmentation.
        share: index of this process and number of processes; each gets its part of every batch.
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

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        corners = self._corners_of_batch(index)
        x = network_input(cut_patches(self._levels, corners, *self._patch))
        y = np.stack(
            [cut_patches(arrays, corners, *self._patch) for arrays in self._aligned], axis=-1
        )
        if self._augmentation:
            generator = np.random.default_rng([*self._seed, index])
            x, y = augment(x, y, self._augmentation, generator)
        if not self._loss_in_FOV:
            y[..., 1] = 1
        process, count = self._share
        part = slice(len(x) * process // count, len(x) * (process + 1) // count)
        return x[part, ..., None], y[part].astype(np.float32)

    def image_names(self, index: int) -> list[str]:
        """The names of the images in batch `index`, sorted."""
        return sorted({self._names[image] for image in self._corners_of_batch(index).image})

    def _corners_of_batch(self, index: int) -> Corners:
        return self._corners[index * self.batch_size : (index + 1) * self.batch_size]


def epoch_patches(
    configuration: Configuration, images: list[TrainingImage], sampler: PatchSampler, epoch: int
) -> PatchBatches:
    """The patches of an epoch. They depend only on seed and epoch: a resumed training has the same."""
    settings, attributes = configuration.training_settings, configuration.data_attributes
    generator = np.random.default_rng([settings.seed, TRAINING, epoch])
    return PatchBatches(
        images,
        sampler.draw(settings.steps * settings.fixed_batch_size, generator),
        (attributes.patch_height, attributes.patch_width),
        settings.fixed_batch_size,
        loss_in_FOV=settings.loss_in_FOV,
        augmentation=configuration.augmentation,
        seed=(settings.seed, AUGMENTATION, epoch),
        share=(process_index(), process_count()),
    )


@dataclass(frozen=True)
class FixedPatches:
    """Patches of one part that stay the same, so that the measures of all epochs can be compared.

    Attributes:
        x: (N, h, w, 1) float32 in [0, 1].
        y: (N, h, w, 2) float32, truth and weight in the loss.
        inside: (N, h, w) bool, the field of view.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray


def fixed_patches(
    configuration: Configuration, part: str, images: list[TrainingImage]
) -> FixedPatches:
    """Patches to measure an epoch: equally many of each image, at random places, without augmentation.

    Raises:
        UserError: all pixels in the field of view are positive, or all are negative, or there are none.
    """
    settings, attributes = configuration.training_settings, configuration.data_attributes
    patch = (attributes.patch_height, attributes.patch_width)
    number = settings.N_subimgs_validation
    generator = np.random.default_rng([settings.seed, FIXED])
    corners = patch_sampler(configuration, images, truth_centred_share=0).draw(number, generator)
    levels, truth, field_of_view = (
        cut_patches([getattr(i, name) for i in images], corners, *patch)
        for name in ("levels", "truth", "field_of_view")
    )
    inside = field_of_view > 0
    if not inside.any() or np.ptp(truth[inside]) == 0:
        raise UserError(
            f"the {number} {part} patches show {attributes.structure} everywhere or nowhere in the field "
            "of view, so that no AUC is defined: raise [training settings] N_subimgs_validation, or look "
            "at prepared.png"
        )
    weight = inside if settings.loss_in_FOV else np.ones_like(inside)
    y = np.stack([truth, weight], axis=-1).astype(np.float32)
    return FixedPatches(network_input(levels)[..., None], y, inside)


def _read_images(configuration: Configuration, part: str) -> list[TrainingImage]:
    attributes = configuration.data_attributes
    images = []
    for image in read_part(configuration.data_paths.hdf5(part)):
        assert image.truth is not None  # only a test set may lack the truth
        levels = preprocess(image.original, image.field_of_view, configuration.preprocessing)
        unpadded = TrainingImage(image.name, levels, image.truth, image.field_of_view)
        images.append(unpadded.at_least(attributes.patch_height, attributes.patch_width))
    return images
