"""HDF5 files that survive a full disk when they are written, and open no other file when they are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import h5py

FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
"""How a data set may be packed. For any other filter HDF5 would look for a program library to load."""


@contextmanager
def written_hdf5(file: Path) -> Iterator[h5py.File]:
    """An HDF5 file to be written; its `flush`, and the end, raise the `OSError` of a full disk.

    Where a write fails under HDF5 it crashes the process, at the latest when that ends. So here none fails.
    """
    with _ErrorKept(file, "w+") as stream:
        try:
            with _FlushedFile(stream, "w") as store:
                store.stream = stream
                yield store
        finally:  # whatever else HDF5 says then is for want of what could not be written
            stream.raise_error()


class _ErrorKept(FileIO):
    """A file that takes whatever is written, and keeps the first error, or Ctrl-C, for later."""

    _error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            rest = memoryview(data)
            while rest and not self._error:
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self._error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size

    def raise_error(self) -> None:
        """Raise what was kept, if anything."""
        if self._error:
            raise self._error


class _FlushedFile(h5py.File):
    def flush(self) -> None:
        super().flush()
        self.stream.raise_error()


def plain_datasets(store: h5py.Group) -> dict[str, h5py.Dataset]:
    """All data sets in and below a group, by their paths, none of them read.

    Raises:
        ValueError: a link, a data set kept in other files, or one packed in an unknown way.
    """
    linked = store.visititems_links(
        lambda name, link: None if isinstance(link, h5py.HardLink) else name
    )
    if linked:
        raise ValueError(f"{linked} is a link, which is not followed")
    found: dict[str, h5py.Dataset] = {}

    def collect(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    store.visititems(collect)
    for name, dataset in found.items():
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{name} keeps its content in other files, which are not read")
        packing = dataset.id.get_create_plist()
        filters = [packing.get_filter(i)[0] for i in range(packing.get_nfilters())]
        if not FILTERS.issuperset(filters) or len(set(filters)) < len(filters):
            raise ValueError(f"{name} is packed in an unknown way")
    return found
