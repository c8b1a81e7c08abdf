"""Training and validation patches: from the prepared images to the batches that Keras trains on."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lib.configuration.reading import Configuration
from lib.configuration.sections import TrainingSettings
from lib.datasets.leakage import PREPARED
from lib.datasets.prepared_hdf5 import PreparedImage, read_part
from lib.datasets.split_file import preparation_of_split, read_split
from lib.images.preprocessing import (
    intensity_channels,
    network_input,
    neutral_levels,
    preprocess,
    resample_mask,
)
from lib.runtime.errors import UserError
from lib.training.augmentation import augment
from lib.training.data_parallel import process_count, process_index
from lib.training.patch_sampler import Corners, PatchSampler, TrainingImage, cut_patches

# The seed of a random generator is [seed, purpose, epoch]. These are the purposes.
TRAINING, AUGMENTATION, FIXED = range(3)


def refuse_unprepared(configuration: Configuration) -> None:
    """Check that the prepared data are there.

    Raises:
        UserError: the data are not prepared, or a part is missing; they are those of another fold; or
            `negatives_share` without negatives.
    """
    paths, settings = configuration.data_paths, configuration.training_settings
    split = paths.split
    if not split.is_file():
        raise UserError(
            f"{split}: no such file; run prepare_datasets_FFA.py (or prepare_datasets_vessels.py) first"
        )
    by_images = settings.validation == "images"
    for part in ("train", "validation") if by_images else ("train",):
        images, truth, _ = paths.hdf5(part)
        if images.is_file() and not truth.is_file():
            raise UserError(
                f"{truth}: no such file; the images of the {part} part were packed without truth: choose "
                "another [preparation] split_file, and prepare again"
            )
        if not images.is_file():
            raise UserError(
                f"{paths.path_local} has no {part} part, which the training needs: prepare again with "
                "another [preparation] split_ratio"
            )
    if changed := changed_preparation(configuration).get("fold"):
        raise UserError(
            f"{changed}: prepare {paths.path_local} again, prepare another [data paths] path_local, or "
            "restore the fold"
        )
    trained = read_split(split, PREPARED)["train"]
    if settings.negatives_share is not None and not any(member.negative for member in trained):
        raise UserError(
            f"[training settings] negatives_share = {settings.negatives_share:g}: {paths.path_local} has no "
            "negatives; set [data paths] path_negatives and prepare again, or leave negatives_share empty"
        )


def changed_preparation(configuration: Configuration) -> dict[str, str]:
    """The keys of [preparation] whose values differ from those of the prepared data, each with both texts.

    Raises:
        UserError: a value of the prepared data is not one that its key can have.
    """
    prepared_with = preparation_of_split(configuration.data_paths.split)
    given, texts = configuration.preparation, configuration.texts["preparation"]
    without_effect = {"split_ratio"} if given.split_file or given.fold else set()
    without_effect |= {"split_seed"} if given.split_file else set()
    return {
        key.name: f"[preparation] {key.name} = {texts[key.name] or '(empty)'}, prepared with "
        f"{prepared_with[key.name] or '(empty)'}"
        for key in dataclasses.fields(given)
        if key.name in prepared_with.keys() - without_effect
        and _stored_value(configuration.data_paths.split, key, prepared_with) != getattr(given, key.name)
    }


def _stored_value(file: Path, key: dataclasses.Field, prepared_with: Mapping[str, str]) -> Any:
    text = prepared_with[key.name]
    try:
        if not isinstance(text, str):
            raise ValueError("a text")
        return key.metadata["read"](text)
    except ValueError as expected:
        raise UserError(
            f"{file}: preparation, {key.name} = {text}: expected {expected}; prepare the data again"
        ) from None


def training_images(configuration: Configuration) -> dict[str, list[TrainingImage]]:
    """The images of the parts "train" and "validation"; only "train" if `validation = none`.

    `validation = patches` is the rule of retina-unet: patches are in the order of their images, and the last
    tenth of them validates (`validation_split` of Keras). So the last tenth of the images validates, and an
    image that is partly in this tenth also trains.
    """
    paths, settings = configuration.data_paths, configuration.training_settings
    if settings.validation != "patches":
        parts = ("train", "validation") if settings.validation == "images" else ("train",)
        return {part: _read_images(configuration, part) for part in parts}
    pooled = [
        image
        for part in ("train", "validation")
        if paths.hdf5(part)[0].is_file()
        for image in _read_images(configuration, part)
    ]
    negatives = [image for image in pooled if image.negative]  # these never validate
    pooled = [image for image in pooled if not image.negative]
    first_validating, first_not_training = bounds_of_the_last_tenth(len(pooled))
    return {"train": pooled[:first_not_training] + negatives, "validation": pooled[first_validating:]}


def bounds_of_the_last_tenth(number: int) -> tuple[int, int]:
    """Index of the first of `number` images that validates, and of the first that does not train."""
    return number - math.ceil(number / 10), number - math.floor(number / 10)


def patch_sampler(
    configuration: Configuration, images: list[TrainingImage], *, truth_centred_share: float
) -> PatchSampler:
    """A sampler for patches of the configured size."""
    attributes, settings = configuration.data_attributes, configuration.training_settings
    return PatchSampler(
        images,
        attributes.patch_height,
        attributes.patch_width,
        inside_FOV=settings.inside_FOV,
        truth_centred_share=truth_centred_share,
        negatives_share=settings.negatives_share,
    )


def target_channels(settings: TrainingSettings) -> int:
    """Channels of `y`: truth and weight, and with `auxiliary_loss_weight` the auxiliary truth."""
    return 3 if settings.auxiliary_loss_weight else 2


class PatchBatches(keras.utils.PyDataset):
    """The patches of an epoch in batches, which are cut from images in memory when Keras needs them.

    A batch is `(x, y)`: `x` (N, h, w, C) float32 in [0, 1]; `y` (N, h, w, 2) float32, the truth and the
    weight of each pixel in the loss, or (N, h, w, 3) with the auxiliary truth. It depends only on the seed,
    the epoch and the index of the batch, so that any thread can make it and a resumed training gets the same
    batches. With several processes each gets its part of every batch.

    Args:
        configuration: seed, size of patches, batch size, augmentation, field of view in the loss.
        images: images that are at least as large as a patch.
        sampler: draws the positions of the patches in `images`.
        epoch: index of the epoch, from 0.
    """

    def __init__(
        self, configuration: Configuration, images: Sequence[TrainingImage], sampler: PatchSampler, epoch: int
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        settings, attributes = configuration.training_settings, configuration.data_attributes
        self._settings, self._augmentation = settings, configuration.augmentation
        self._intensities = intensity_channels(configuration.preprocessing)
        self._outside = neutral_levels(configuration.preprocessing) / np.float32(255)
        self._names = [image.name for image in images]
        self._levels = [image.levels for image in images]
        aligned = ("truth", "field_of_view", "auxiliary")[: target_channels(settings)]
        self._aligned = [[getattr(image, name) for image in images] for name in aligned]
        self._patch = (attributes.patch_height, attributes.patch_width)
        self.batch_size, self._epoch = settings.fixed_batch_size, epoch
        generator = np.random.default_rng([settings.seed, TRAINING, epoch])
        self._corners = sampler.draw(settings.steps * self.batch_size, generator)

    def __len__(self) -> int:
        return math.ceil(len(self._corners) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        corners = self._corners_of_batch(index)
        x = network_input(cut_patches(self._levels, corners, *self._patch))
        y = np.stack([cut_patches(arrays, corners, *self._patch) for arrays in self._aligned], axis=-1)
        generator = np.random.default_rng([self._settings.seed, AUGMENTATION, self._epoch, index])
        x, y = augment(x, y, self._augmentation, generator, self._intensities, self._outside)
        if not self._settings.loss_in_FOV:
            y[..., 1] = 1
        process, count = process_index(), process_count()
        part = slice(len(x) * process // count, len(x) * (process + 1) // count)
        return x[part], y[part].astype(np.float32)

    def image_names(self, index: int) -> list[str]:
        """The names of the images in batch `index`, sorted."""
        return sorted({self._names[image] for image in self._corners_of_batch(index).image})

    def _corners_of_batch(self, index: int) -> Corners:
        return self._corners[index * self.batch_size : (index + 1) * self.batch_size]


@dataclass(frozen=True)
class FixedPatches:
    """Patches of one part that stay the same, so that the measures of all epochs can be compared.

    Attributes:
        x: (N, h, w, C) float32 in [0, 1].
        y: (N, h, w, 2) float32, truth and weight in the loss.
        inside: (N, h, w) bool, the field of view.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray


def fixed_patches(configuration: Configuration, part: str, images: list[TrainingImage]) -> FixedPatches:
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
    return FixedPatches(network_input(levels), y, inside)


def _read_images(configuration: Configuration, part: str) -> list[TrainingImage]:
    attributes, settings = configuration.data_attributes, configuration.preprocessing
    split = read_split(configuration.data_paths.split, PREPARED)
    negatives = {member.name for member in split.get(part, []) if member.negative}
    outside, images = neutral_levels(settings), []
    for image in read_part(configuration.data_paths.hdf5(part)):
        assert image.truth is not None  # only a test set may lack the truth
        levels = preprocess(image.original, image.field_of_view, settings)
        auxiliary = _auxiliary_truth(configuration, image)
        shape = levels.shape[:2]
        unpadded = TrainingImage(
            image.name,
            levels,
            resample_mask(image.truth, shape),
            resample_mask(image.field_of_view, shape),
            None if auxiliary is None else resample_mask(auxiliary, shape),
            image.name in negatives,
            image.patient,
        )
        images.append(unpadded.at_least(attributes.patch_height, attributes.patch_width, outside))
    return images


def _auxiliary_truth(configuration: Configuration, image: PreparedImage) -> np.ndarray | None:
    """The auxiliary truth if the training uses it, else None.

    Raises:
        UserError: the training uses it, and it was not prepared.
    """
    weight = configuration.training_settings.auxiliary_loss_weight
    if not weight:
        return None
    if image.auxiliary is None:
        raise UserError(
            f"[training settings] auxiliary_loss_weight = {weight:g}: {configuration.data_paths.path_local} "
            "has no auxiliary truth; set [preparation] auxiliary_labels and run prepare_datasets_FFA.py "
            "again, or set auxiliary_loss_weight = 0"
        )
    return image.auxiliary
