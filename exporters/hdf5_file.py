"""New HDF5 files: on disks that may be full, compressed on all cores."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import imagecodecs
import numpy as np
import numpy.typing as npt

from exporters.blocks import boxes

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


def write_compressed(
    dataset: Any,  # noqa: ANN401 (h5py has no types)
    corner: Sequence[int],
    values: npt.NDArray[Any],
) -> None:
    """Write voxels from `corner` on, as HDF5 would, but all blocks at once.

    Parameters
    ----------
    dataset : h5py.Dataset
        In whole blocks, compressed by gzip alone.
    corner : sequence of int
        The first voxel; of a block, too. What of the last blocks lies beyond `values` becomes 0.
    values : ndarray
        Of the dataset's axes.
    """

    def encode(box: tuple[slice, ...]) -> bytes:
        block = np.zeros(dataset.chunks, dataset.dtype)
        block[tuple(slice(0, part.stop - part.start) for part in box)] = values[box]
        return bytes(imagecodecs.zlibng_encode(block, level=dataset.compression_opts))  # type: ignore[arg-type]

    places = list(boxes(values.shape, dataset.chunks))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for box, encoded in zip(places, pool.map(encode, places), strict=True):
            at = tuple(first + part.start for first, part in zip(corner, box, strict=True))
            dataset.id.write_direct_chunk(at, encoded)


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
