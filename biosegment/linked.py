"""Volumes that stay where they are: arrays in files of other programs, read in place.

Only what is cut into blocks that can be decoded alone is worth it: OME-Zarr and Zarr, chunked
HDF5, tiled TIFF.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from biosegment.checked_blosc import CONFIGURATION, with_checks
from biosegment.errors import LinkBrokenError

_Opened: TypeAlias = tuple[Any, Callable[[], None]]
"""An array, and what closes its file."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a volume lies in a file."""

    kind: str
    """``zarr``, ``hdf5`` or ``tiff``."""
    path: str
    """Absolute path of the file or folder, or its address."""
    dataset: str = ""
    """Path of the array inside; of a TIFF nothing."""
    index: tuple[int | None, ...] = (None, None, None)
    """Position along each of the array's axes, None for z, y and x, which are in this order."""

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the link that was written by :meth:`to_json`."""
        return cls(facts["kind"], facts["path"], facts["dataset"], tuple(facts["index"]))


class LinkedArray:
    """The array (z, y, x) that a link leads to; opened at once, and anew in other processes.

    Parameters
    ----------
    link

    Raises
    ------
    LinkBrokenError
        If there is no such array any more.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        """Where it lies."""
        try:
            self._array, close = _OPENERS[link.kind](link)
            weakref.finalize(self, close)
            if len(self._array.shape) != len(link.index):
                raise ValueError(f"the array there has {len(self._array.shape)} axes")
        except (OSError, KeyError, ValueError, tifffile.TiffFileError) as exc:
            raise LinkBrokenError(link.path, str(exc) or type(exc).__name__) from exc
        sizes = zip(self._array.shape, link.index, strict=True)
        self.shape = tuple(int(size) for size, place in sizes if place is None)
        """Extent (z, y, x) in voxels."""
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype).newbyteorder("=")
        """Number type, in the machine's byte order."""

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return a part, shape (z, y, x)."""
        parts = iter((*slices, *[slice(None)] * (3 - len(slices))))
        index = tuple(next(parts) if place is None else place for place in self.link.index)
        try:
            part: npt.NDArray[Any] = np.asarray(self._array[index], self.dtype)
        except (OSError, RuntimeError, ValueError) as exc:
            raise LinkBrokenError(self.link.path, f"a block is damaged ({exc})") from exc
        return part

    def __reduce__(self) -> tuple[type[Self], tuple[Link]]:
        return (type(self), (self.link,))


def _zarr(link: Link) -> _Opened:
    with zarr.config.set(CONFIGURATION):
        array = zarr.open_array(link.path, path=link.dataset, mode="r")
    return with_checks(array), lambda: None


def _hdf5(link: Link) -> _Opened:
    file = h5py.File(link.path, "r")
    return file[link.dataset], file.close


def _tiff(link: Link) -> _Opened:
    file = tifffile.TiffFile(link.path)
    return zarr.open_array(file.series[0].aszarr(level=0), mode="r"), file.close


_OPENERS: Final[Mapping[str, Callable[[Link], tuple[Any, Callable[[], None]]]]] = {
    "zarr": _zarr,
    "hdf5": _hdf5,
    "tiff": _tiff,
}
