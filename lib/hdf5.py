"""retina-unet's HDF5 files: images, truth (`groundTruth`) and field of view (`borderMasks`) of one part.

Each file holds a data set `image` (N, H, W, C) uint8, one chunk an image, compressed; images smaller than
the largest stand in its upper left corner, and `size` (N, 2) gives their height and width. `name` and
`patient` (N,) are text.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lib.user_errors import UserError


@dataclass(frozen=True)
class PreparedImage:
    """One angiogram with its truth.

    Attributes:
        name: file name without its ending.
        patient: patient id.
        original: (H, W) or (H, W, 3) uint8, the information banner cut off.
        truth: (H, W) uint8 in {0, 1}.
        field_of_view: (H, W) uint8 in {0, 1}.
    """

    name: str
    patient: str
    original: np.ndarray
    truth: np.ndarray
    field_of_view: np.ndarray


def write_part(
    files: tuple[Path, Path, Path],
    images: Iterable[PreparedImage],
    shape: tuple[int, int, int, int],
) -> None:
    """Write one part's images, truth and field of view, one image at a time.

    Args:
        files: where images, truth and field of view go.
        images: exactly `shape[0]` images.
        shape: number, largest height, largest width, and channels (1 or 3; grey images among coloured
            ones are stored with three equal channels).
    """
    number, height, width, channels = shape
    with ExitStack() as stack:
        stores = [stack.enter_context(h5py.File(file, "w")) for file in files]
        for store, depth in zip(stores, (channels, 1, 1), strict=True):
            store.create_dataset(
                "image",
                (number, height, width, depth),
                "uint8",
                chunks=(1, height, width, depth),
                compression="gzip",
                compression_opts=4,
            )
            store.create_dataset("size", (number, 2), "int64")
            for label in ("name", "patient"):
                store.create_dataset(label, (number,), h5py.string_dtype())
        for index, image in enumerate(images):
            rows, columns = image.truth.shape
            for store, pixels in zip(
                stores, (image.original, image.truth, image.field_of_view), strict=True
            ):
                pixels = pixels if pixels.ndim == 3 else pixels[..., None]
                store["image"][index, :rows, :columns] = pixels
                store["size"][index] = rows, columns
                store["name"][index] = image.name
                store["patient"][index] = image.patient


def members_of(files: tuple[Path, Path, Path]) -> list[tuple[str, str]]:
    """Name and patient of each image of one part, without reading pixels."""
    with _open(files[0]) as store:
        return list(zip(store["name"].asstr(), store["patient"].asstr(), strict=True))


def read_part(files: tuple[Path, Path, Path], limit: int | None = None) -> Iterator[PreparedImage]:
    """Yield the images of one part, one in memory at a time; at most `limit` of them.

    Raises:
        UserError: a file is missing, is no HDF5, lacks a data set, or the three disagree.
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(_open(file)) for file in files]
        counts = [store["image"].shape[0] for store in stores]
        names = [list(store["name"].asstr()) for store in stores]
        if names[0] != names[1] or names[0] != names[2]:
            listed = ", ".join(f"{f} ({n})" for f, n in zip(files, counts, strict=True))
            raise UserError(f"not the same images in {listed}; run prepare_datasets_FFA.py again")
        for index, name in enumerate(names[0][:limit]):
            rows, columns = stores[0]["size"][index]
            original, truth, field_of_view = (
                store["image"][index, :rows, :columns] for store in stores
            )
            yield PreparedImage(
                name,
                stores[0]["patient"].asstr()[index],
                original[..., 0] if original.shape[2] == 1 else original,
                truth[..., 0],
                field_of_view[..., 0],
            )


def _open(file: Path) -> h5py.File:
    if not file.is_file():
        raise UserError(f"{file}: no such file; run prepare_datasets_FFA.py first")
    try:
        store = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: not a readable HDF5 file ({error})") from None
    if missing := {"image", "size", "name", "patient"} - set(store):
        store.close()
        raise UserError(
            f"{file}: no data set {', '.join(sorted(missing))}; run prepare_datasets_FFA.py again"
        )
    return store
