"""What a training learns and validates from: its images, and the patches that are cut from them."""

import math
from dataclasses import dataclass

import numpy as np

from lib.configuration.reading import Configuration
from lib.datasets.prepared_hdf5 import read_part
from lib.images.preprocessing import network_input, preprocess
from lib.runtime.errors import UserError
from lib.training.data_parallel import process_number_and_count
from lib.training.patch_batches import PatchBatches
from lib.training.patch_sampler import PatchSampler, TrainingImage, cut_patches

# What a stream of random numbers is for: seeds are [seed, purpose, epoch].
TRAINING, AUGMENTATION, FIXED = range(3)


@dataclass(frozen=True)
class FixedPatches:
    """Patches on which every epoch is measured.

    Attributes:
        x: (N, h, w, 1) float32.
        y: (N, h, w, 2) float32, truth and weight in the loss.
        inside: (N, h, w) bool, the field of view.
    """

    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray


def refuse_unprepared(configuration: Configuration) -> None:
    """Before a network is built.

    Raises:
        UserError: the data are not prepared, or lack a part.
    """
    paths = configuration.data_paths
    split = paths.path_local / "split.json"
    if not split.is_file():
        raise UserError(
            f"{split}: no such file; run prepare_datasets_FFA.py (or prepare_datasets_vessels.py) first"
        )
    needed = (
        ("train", "validation")
        if configuration.training_settings.validation == "images"
        else ("train",)
    )
    for part in needed:
        if not paths.hdf5(part)[0].is_file():
            raise UserError(
                f"{paths.path_local} holds no {part} part, which training needs: prepare again with "
                "another [preparation] split_ratio"
            )


def training_images(configuration: Configuration) -> dict[str, list[TrainingImage]]:
    """What trains and what validates.

    `validation = patches` is retina-unet's: patches lie in the order of their images, and the last tenth
    of them validates (Keras' `validation_split`). So the last tenth of the images validates, and an
    image that the tenth cuts in two does both.
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
    first, last = images_of_the_last_tenth(len(pooled))
    return {"train": pooled[:last], "validation": pooled[first:]}


def images_of_the_last_tenth(number: int) -> tuple[int, int]:
    """Of so many images in order: the first that validates, and the first that does not train."""
    return number - math.ceil(number / 10), number - math.floor(number / 10)


def _read_images(configuration: Configuration, part: str) -> list[TrainingImage]:
    attributes = configuration.data_attributes
    return [
        TrainingImage(
            image.name,
            preprocess(image.original, image.field_of_view, configuration.preprocessing),
            image.truth,
            image.field_of_view,
        ).at_least(attributes.patch_height, attributes.patch_width)
        for image in read_part(configuration.data_paths.hdf5(part))
    ]


def patch_sampler(
    configuration: Configuration, images: list[TrainingImage], *, truth_centred_share: float
) -> PatchSampler:
    """Draws where patches are cut from `images`."""
    attributes = configuration.data_attributes
    return PatchSampler(
        images,
        attributes.patch_height,
        attributes.patch_width,
        inside_FOV=configuration.training_settings.inside_FOV,
        truth_centred_share=truth_centred_share,
    )


def epoch_patches(
    configuration: Configuration, images: list[TrainingImage], sampler: PatchSampler, epoch: int
) -> PatchBatches:
    """The patches of one epoch: a function of seed and epoch, so that a resumed run has the same."""
    settings, attributes = configuration.training_settings, configuration.data_attributes
    generator = np.random.default_rng([settings.seed, TRAINING, epoch])
    return PatchBatches(
        images,
        sampler.draw(settings.steps * settings.batch_size, generator),
        (attributes.patch_height, attributes.patch_width),
        settings.batch_size,
        loss_in_FOV=settings.loss_in_FOV,
        augmentation=configuration.augmentation,
        seed=(settings.seed, AUGMENTATION, epoch),
        share=process_number_and_count(),
    )


def fixed_patches(
    configuration: Configuration, part: str, images: list[TrainingImage]
) -> FixedPatches:
    """Drawn alike from both parts: evenly over the images, not augmented, not favouring the truth.

    Raises:
        UserError: they show nothing, or nothing else, so that they measure nothing.
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
