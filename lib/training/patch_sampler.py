"""Random positions of training patches, and cutting the patches from the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lib.runtime.errors import UserError


@dataclass(frozen=True)
class TrainingImage:
    """A preprocessed image: `levels` (H, W, C); `truth`, `field_of_view` and `auxiliary` (H, W); all uint8.

    `auxiliary` is None without `auxiliary_loss_weight`. `negative`: the image is of `path_negatives`.
    `patient` is "" if it is not known.
    """

    name: str
    levels: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray
    auxiliary: np.ndarray | None = None
    negative: bool = False
    patient: str = ""

    def at_least(self, height: int, width: int, outside: np.ndarray) -> "TrainingImage":
        """The image, padded at the bottom and the right to at least (height, width).

        The levels are padded with `outside`, (C,) uint8, truth and field of view with 0.
        """
        rows, columns = self.truth.shape
        margins = ((0, max(0, height - rows)), (0, max(0, width - columns)))
        levels = np.tile(outside, (max(rows, height), max(columns, width), 1))
        levels[:rows, :columns] = self.levels
        return replace(
            self,
            levels=levels,
            truth=np.pad(self.truth, margins),
            field_of_view=np.pad(self.field_of_view, margins),
            auxiliary=None if self.auxiliary is None else np.pad(self.auxiliary, margins),
        )


@dataclass(frozen=True)
class Corners:
    """Upper left corners of patches: image number, row and column, each (N,) integers."""

    image: np.ndarray
    row: np.ndarray
    column: np.ndarray

    def __getitem__(self, chosen: slice | np.ndarray) -> "Corners":
        return Corners(self.image[chosen], self.row[chosen], self.column[chosen])

    def __len__(self) -> int:
        return len(self.image)


class PatchSampler:
    """Draws random corners of patches, equally many in each image (of a group, with `negatives_share`).

    Args:
        images: images that are at least as large as a patch.
        height: height of a patch in pixels.
        width: width of a patch in pixels.
        inside_FOV: draw only patches that lie completely in the field of view.
        truth_centred_share: share of the patches whose centre is a positive pixel of the truth (as nearly as
            the border of the image allows), if the image has any.
        negatives_share: share of the patches that come from negatives; None: all images are one group.

    Raises:
        UserError: `inside_FOV`, and no patch fits into the field of view of an image.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        height: int,
        width: int,
        *,
        inside_FOV: bool = False,
        truth_centred_share: float = 0.0,
        negatives_share: float | None = None,
    ) -> None:
        self._groups = _groups(images, negatives_share)
        self._patch = (height, width)
        self._share = truth_centred_share
        # Number of rows and columns in which a corner can be. A corner has one index: row * columns + column.
        self._spans = [self._span(image) for image in images]
        self._allowed = [self._inside(image) if inside_FOV else None for image in images]
        self._centred = [
            self._centred_on_truth(image, allowed) if truth_centred_share else None
            for image, allowed in zip(images, self._allowed, strict=True)
        ]

    def draw(self, number: int, generator: np.random.Generator) -> Corners:
        """`number` corners in random order; random images get the remainder of an equal division."""
        shares = self._shares(number, generator)
        image = np.repeat(np.arange(len(shares)), shares)
        flat = np.concatenate([self._draw_one(i, n, generator) for i, n in enumerate(shares)])
        columns = np.asarray([span[1] for span in self._spans])[image]
        order = generator.permutation(number)
        return Corners(image, flat // columns, flat % columns)[order]

    def _shares(self, number: int, generator: np.random.Generator) -> np.ndarray:
        """Number of patches from each image, (images,) integers with the sum `number`."""
        shares = np.zeros(len(self._spans), int)
        ends = np.rint(np.cumsum([share for _, share in self._groups]) * number).astype(int)
        for (group, _), of_group in zip(self._groups, np.diff(ends, prepend=0), strict=True):
            extra = generator.permutation(len(group))[: of_group % len(group)]
            shares[group] = of_group // len(group)
            shares[group[extra]] += 1
        return shares

    def _draw_one(self, index: int, number: int, generator: np.random.Generator) -> np.ndarray:
        centred, allowed = self._centred[index], self._allowed[index]
        chosen = []
        if centred is not None and centred.size:
            # Rounded at random: with a few patches from each image, the share of an epoch would be wrong.
            on_truth = int(number * self._share + generator.random())
            chosen = [generator.choice(centred, on_truth)]
            number -= on_truth
        if allowed is None:
            others = generator.integers(np.prod(self._spans[index]), size=number)
        else:
            others = generator.choice(allowed, number)
        return np.concatenate([*chosen, others])

    def _span(self, image: TrainingImage) -> tuple[int, int]:
        (rows, columns), (height, width) = image.truth.shape, self._patch
        return rows - height + 1, columns - width + 1

    def _inside(self, image: TrainingImage) -> np.ndarray:
        rows, columns = self._span(image)
        # Erosion with anchor (0, 0) leaves exactly the corners whose patch is completely inside.
        patch = np.ones(self._patch, np.uint8)
        eroded = cv2.erode(image.field_of_view, patch, anchor=(0, 0), borderValue=0)
        inside = np.flatnonzero(eroded[:rows, :columns])
        if not inside.size:
            height, width = self._patch
            raise UserError(
                f"{image.name}: no patch of {height}x{width} lies completely in the field of view; "
                "set [training settings] inside_FOV = False, or choose smaller patches"
            )
        return inside

    def _centred_on_truth(self, image: TrainingImage, allowed: np.ndarray | None) -> np.ndarray:
        (height, width), (rows, columns) = self._patch, self._span(image)
        row, column = np.nonzero(image.truth)
        row = np.clip(row - height // 2, 0, rows - 1)
        corners = row * columns + np.clip(column - width // 2, 0, columns - 1)
        return corners if allowed is None else corners[np.isin(corners, allowed)]


def _groups(images: Sequence[TrainingImage], negatives_share: float | None) -> list[tuple[np.ndarray, float]]:
    """Groups of images, each as indices and share of the patches; an image without a group has no patches."""
    negative = np.array([image.negative for image in images], bool)
    if negatives_share is None or not negative.any() or negative.all():
        return [(np.arange(len(images)), 1.0)]
    return [(np.flatnonzero(~negative), 1 - negatives_share), (np.flatnonzero(negative), negatives_share)]


def cut_patches(arrays: Sequence[np.ndarray], corners: Corners, height: int, width: int) -> np.ndarray:
    """Cut patches at `corners`: (N, height, width) from `arrays` (H, W), with channels from (H, W, C).

    All `arrays` have the same dtype.
    """
    patches = np.empty((len(corners), height, width, *arrays[0].shape[2:]), arrays[0].dtype)
    for index in np.unique(corners.image):
        here = corners.image == index
        windows = sliding_window_view(arrays[index], (height, width), axis=(0, 1))
        cut = windows[corners.row[here], corners.column[here]]  # rows and columns are the last axes
        patches[here] = np.moveaxis(cut, (-2, -1), (1, 2))
    return patches
