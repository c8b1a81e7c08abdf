"""HDF5 files: writing reports a full disk without a crash; reading opens no other file."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py

FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
"""Filters that a data set may use. For another filter HDF5 would load a program library."""


@contextmanager
def written_hdf5(file: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file; its `flush` and the end of the context raise the `OSError` of a full disk.

    A failed write inside HDF5 crashes the process. So writes always succeed for HDF5, and the error is
    raised later.
    """
    with _DelayedErrors(file, "w+") as stream:
        try:
            with _FlushedFile(stream, "w") as store:
                yield store
        finally:  # replaces any error of HDF5, which is a consequence of the failed write
            stream.raise_error()


class _DelayedErrors(FileIO):
    """A file whose writes never raise; it keeps the first error, or Ctrl-C, for `raise_error`."""

    _error: BaseException | None = None

    def write(self, data: Any, /) -> int:
        try:  # around all: an exception that reaches HDF5 crashes the process
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
            return size or 0

    def raise_error(self) -> None:
        """Raise the error that was kept, if there is one."""
        if self._error:
            raise self._error


class _FlushedFile(h5py.File):
    def __init__(self, stream: _DelayedErrors, mode: str) -> None:
        super().__init__(stream, mode)
        self._stream = stream

    def flush(self) -> None:
        super().flush()
        self._stream.raise_error()


def plain_datasets(store: h5py.Group) -> dict[str, h5py.Dataset]:
    """All data sets in and below a group by their paths; their content is not read.

    Raises:
        ValueError: a link, a data set in other files, or a data set with an unknown filter.
    """
    linked = store.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
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
