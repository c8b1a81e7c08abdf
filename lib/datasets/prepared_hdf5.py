"""HDF5 files in the layout of retina-unet: images, truth (`groundTruth`), field of view (`borderMasks`).

Each file has a data set `image` (N, H, W, C) uint8, compressed, one chunk per image. Images smaller than
the largest are in the upper left corner; `size` (N, 2) gives their height and width. `name` and `patient`
(N,) are text. The truth file may also contain further masks: `second_observer`, `auxiliary`.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lib.configuration.sections import DataPaths
from lib.images.checked_files import MAX_PIXELS
from lib.runtime.errors import UserError
from lib.runtime.safe_hdf5 import plain_datasets, written_hdf5

FURTHER_MASKS = ("second_observer", "auxiliary")
"""Data sets that the truth file may contain; named as in `PreparedImage`."""

BOMB_BYTES, BOMB_RATIO = 2**30, 200
"""Images of more bytes and a higher compression ratio than this are refused as a decompression bomb."""


@dataclass(frozen=True)
class PreparedImage:
    """One image with its truth.

    Attributes:
        name: file name without its extension.
        patient: patient id.
        original: (H, W) or (H, W, 3) uint8, without the information banner.
        truth: (H, W) uint8 in {0, 1}; None if there is none: the image cannot be scored then.
        field_of_view: (H, W) uint8 in {0, 1}.
        second_observer: (H, W) uint8 in {0, 1}, or None.
        auxiliary: (H, W) uint8 in {0, 1}, the region of [preparation] auxiliary_labels, or None.
    """

    name: str
    patient: str
    original: np.ndarray
    truth: np.ndarray | None
    field_of_view: np.ndarray
    second_observer: np.ndarray | None = None
    auxiliary: np.ndarray | None = None


def write_part(
    files: tuple[Path, Path | None, Path], images: Iterable[PreparedImage], shape: tuple[int, int, int, int]
) -> None:
    """Write images, truth and field of view of one part, with one image in memory at a time.

    Args:
        files: files for images, truth (None if the part has none) and field of view.
        images: exactly `shape[0]` images; an image may lack a mask of `FURTHER_MASKS` that others have.
        shape: number, largest height, largest width, and channels (1 or 3; a grey image among RGB
            images is stored with three equal channels).
    """
    number, height, width, channels = shape
    with ExitStack() as stack:
        stores = {
            field: stack.enter_context(written_hdf5(file))
            for field, file in zip(("original", "truth", "field_of_view"), files, strict=True)
            if file
        }
        for field, store in stores.items():
            depth = channels if field == "original" else 1
            _pixels(store, "image", (number, height, width, depth))
            store.create_dataset("size", (number, 2), "int64")
            for label in ("name", "patient"):
                store.create_dataset(label, (number,), h5py.string_dtype())
        for index, image in enumerate(images):
            rows, columns = image.field_of_view.shape
            for field, store in stores.items():
                store["image"][index, :rows, :columns] = np.atleast_3d(getattr(image, field))
                store["size"][index] = rows, columns
                store["name"][index] = image.name
                store["patient"][index] = image.patient
            for name in FURTHER_MASKS:
                if (mask := getattr(image, name)) is not None and "truth" in stores:
                    masks = _pixels(stores["truth"], name, (number, height, width, 1))
                    masks[index, :rows, :columns, 0] = mask
            for store in stores.values():
                store.flush()


def _pixels(store: h5py.File, name: str, shape: tuple[int, int, int, int]) -> h5py.Dataset:
    """The data set `name`, created if it does not exist: compressed, one chunk per image."""
    return store.require_dataset(
        name, shape, "uint8", chunks=(1, *shape[1:]), compression="gzip", compression_opts=4
    )


def _has(masks: h5py.Dataset, index: int) -> bool:
    """Whether the mask of an image was written: without it, HDF5 stores no chunk and reads zeros."""
    return masks.chunks is None or masks.id.get_chunk_info_by_coord((index, 0, 0, 0)).byte_offset is not None


def names_and_patients(files: tuple[Path, Path, Path]) -> list[tuple[str, str]]:
    """Name and patient of each image of one part; pixels are not read.

    Raises:
        UserError: the file is missing, or is not such an HDF5 file.
    """
    with _open(files[0]) as store:
        return list(zip(store["name"].asstr(), store["patient"].asstr(), strict=True))


def read_originals(file: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield name, patient and pixels, (H, W) or (H, W, 3), of each image in a file of images.

    Equal channels are one channel, as `read_image` reads them: in a file with colour images, a grey image has
    three.

    Raises:
        UserError: the file is missing, is not such an HDF5 file, or an image is damaged.
    """
    with _open(file) as store:
        _refuse_bomb(file, store)
        texts = zip(store["name"].asstr(), store["patient"].asstr(), strict=True)
        for index, (name, patient) in enumerate(texts):
            rows, columns = store["size"][index]
            try:
                pixels = store["image"][index, :rows, :columns]
            except OSError as error:
                raise UserError(
                    f"{file}: image {name} is damaged ({error}); prepare the data again"
                ) from None
            grey = (pixels == pixels[..., :1]).all()
            yield name, patient, np.ascontiguousarray(pixels[..., 0]) if grey else pixels


def read_part(files: tuple[Path, Path, Path], limit: int | None = None) -> Iterator[PreparedImage]:
    """Yield the images of one part, at most `limit`, with one image in memory at a time.

    Raises:
        UserError: a file is missing, is not such an HDF5 file, or the three contain different images.
    """
    with ExitStack() as stack:
        stores = [stack.enter_context(_open(file)) for file in files]
        _refuse_bomb(files[0], stores[0])
        counts = [store["image"].shape[0] for store in stores]
        names = [list(store["name"].asstr()) for store in stores]
        sides = {store["image"].shape[1:3] for store in stores}
        if names[0] != names[1] or names[0] != names[2] or len(sides) > 1:
            listed = ", ".join(f"{f} ({n})" for f, n in zip(files, counts, strict=True))
            raise UserError(f"different images in {listed}; prepare the data again")
        for index, name in enumerate(names[0][:limit]):
            rows, columns = stores[0]["size"][index]
            stored = [mask for mask in FURTHER_MASKS if mask in stores[1] and _has(stores[1][mask], index)]
            try:
                original, truth, field_of_view = (store["image"][index, :rows, :columns] for store in stores)
                further = {mask: stores[1][mask][index, :rows, :columns, 0] for mask in stored}
            except OSError as error:
                raise UserError(
                    f"{files[0]}, or the files of its truth and field of view: image {name} is damaged "
                    f"({error}); prepare the data again"
                ) from None
            patient = stores[0]["patient"].asstr()[index]
            original = original[..., 0] if original.shape[2] == 1 else original
            yield PreparedImage(name, patient, original, truth[..., 0], field_of_view[..., 0], **further)


def refuse_missing_parts(paths: DataPaths, *, validation: bool = False) -> None:
    """Refuse a test without test images or their truth, or without the validation images that it needs.

    Raises:
        UserError: says which part is missing, and what to do. A folder that is not prepared passes.
    """
    images, truth, _ = paths.hdf5("test")
    if paths.tested_split.is_file() and not images.is_file():
        raise UserError(
            f"{images.parent} has no test part: prepare again with another [preparation] split_ratio, or "
            "name a folder with prepared test images as [data paths] path_test"
        )
    if validation and paths.split.is_file() and not paths.hdf5("validation")[0].is_file():
        raise UserError(
            f"{paths.path_local} has no validation part, which chooses threshold and smallest area: give "
            "[testing settings] threshold and min_area_px as numbers, or prepare again with another "
            "[preparation] split_ratio"
        )
    if images.is_file() and not truth.is_file():
        raise UserError(
            f"{truth}: no such file; the test images were packed without truth and cannot be scored"
        )


def _open(file: Path) -> h5py.File:
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; run prepare_datasets_FFA.py (or prepare_datasets_vessels.py) first"
        )
    try:
        store = h5py.File(file, "r")
    except OSError as error:
        raise UserError(f"{file}: not a readable HDF5 file ({error})") from None
    try:
        _check(plain_datasets(store))
    except (ValueError, RuntimeError, OSError) as error:
        store.close()
        raise UserError(f"{file}: {error}; prepare the data again") from None
    return store


def _check(datasets: dict[str, h5py.Dataset]) -> None:
    """Check that the data sets can be read image by image with limited memory.

    Raises:
        ValueError: names the data set that is wrong.
    """
    if missing := {"image", "size", "name", "patient"} - datasets.keys():
        raise ValueError(f"no data set {', '.join(sorted(missing))}")
    image = datasets["image"]
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] not in {1, 3}:
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (N, H, W, 1 or 3)")
    number, height, width, _ = image.shape
    if not number:
        raise ValueError("image contains no image")
    if height * width > MAX_PIXELS:
        raise ValueError(f"image has {height}x{width} pixels, expected at most {MAX_PIXELS}")
    if image.chunks != (1, *image.shape[1:]) or image.id.get_num_chunks() != number:
        raise ValueError(f"image {image.shape} is not stored in one chunk per image, or incomplete")
    for name in ("name", "patient"):
        text = h5py.check_string_dtype(datasets[name].dtype)
        if text is None or text.length is not None or datasets[name].shape != (number,):
            raise ValueError(f"{name} is not a list of {number} texts")
    size = datasets["size"]
    if size.dtype != np.int64 or size.shape != (number, 2):
        raise ValueError(f"size is {size.dtype} {size.shape}, expected int64 {(number, 2)}")
    if ((size[...] < 1) | (size[...] > [height, width])).any():
        raise ValueError(f"size: expected 1 to {height} and 1 to {width}")
    for name in FURTHER_MASKS:
        masks = datasets.get(name, image)
        if masks.dtype != np.uint8 or masks.shape not in {image.shape, (*image.shape[:3], 1)}:
            raise ValueError(f"{name} is {masks.dtype} {masks.shape}, unlike image")


def _refuse_bomb(file: Path, store: h5py.File) -> None:
    """Refuse an image file with a compression ratio that photographs cannot have; masks may have it."""
    size = int(store["size"][...].prod(axis=1).sum()) * store["image"].shape[3]
    stored = store["image"].id.get_storage_size()
    if size > max(BOMB_BYTES, BOMB_RATIO * stored):
        raise UserError(
            f"{file}: {stored} bytes that would decompress to {size}: these are not photographs; "
            "prepare the data again"
        )
