"""New HDF5 files on disks that may be full."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def new_hdf5(path: Path, **options: object) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Lend a new HDF5 file, open for writing, and what raises OSError once something did not fit.

    Call that now and then, so as not to go on in vain; the end calls it too. `options` are h5py's.
    """
    with _PatientFile(path, "w+") as disk:
        try:
            with h5py.File(disk, "w", **options) as file:
                yield file, disk.check
        finally:
            # First of all errors: others follow from it.
            disk.check()


class _PatientFile(io.FileIO):
    """A file that takes everything, and tells afterwards that it did not fit.

    HDF5 brings the process down if, at the end, it cannot write what it still has in memory.
    """

    _error: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        rest = memoryview(data)
        size = rest.nbytes
        try:
            while rest and not self._error:
                rest = rest[super().write(rest) :]
        except OSError as exc:
            self._error = exc
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as exc:
            self._error = self._error or exc
            return size or 0

    def check(self) -> None:
        """Raise what was kept back."""
        if self._error:
            raise self._error
