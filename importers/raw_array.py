"""Volumes that lie in a file as one plain array, read by region through a memory map.

The map is made for each region and dropped with it, so that what has been read does not stay in
the process's memory.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape, storable_dtype
from importers.damage import explain_damage
from importers.gunzip import gunzipped, is_gzipped


@dataclass(frozen=True, slots=True)
class RawArray:
    """How an array lies in a file."""

    axes: str
    """A letter of t, c, z, y, x for each axis, the one whose voxels are farthest apart first."""
    sizes: tuple[int, ...]
    """Extent along each axis."""
    dtype: np.dtype[Any]
    """Type and byte order as stored."""
    offset: int
    """Where its first voxel stands, in bytes."""

    @property
    def end(self) -> int:
        """Where its last voxel ends, in bytes."""
        return self.offset + math.prod(self.sizes) * self.dtype.itemsize

    def size(self, axis: str) -> int:
        """Return the extent along an axis; 1 if there is no such axis."""
        return self.sizes[self.axes.index(axis)] if axis in self.axes else 1

    def check_sizes(self, path: Path) -> None:
        """Raise UnreadableFileError if an axis has no extent or voxels stand before the file."""
        if min(self.sizes) < 1 or self.offset < 0:
            reason = f"it says it is {describe_shape(self.sizes)} voxels from byte {self.offset}"
            raise UnreadableFileError(str(path), reason)

    def check_end(self, path: Path, size: int) -> None:
        """Raise UnreadableFileError if a file of `size` bytes does not hold the whole array."""
        if self.end > size:
            reason = (
                f"it is cut off: it should hold {describe_shape(self.sizes)} voxels up to byte "
                f"{self.end} and ends at byte {size}"
            )
            raise UnreadableFileError(str(path), reason)

    def info(
        self,
        path: Path,
        voxel_size: VoxelSize | None,
        metadata: Mapping[str, str],
        channel_names: tuple[str, ...] = (),
    ) -> VolumeInfo:
        """Return what is known of the volume in the file at `path`."""
        return VolumeInfo(
            shape=(self.size("z"), self.size("y"), self.size("x")),
            dtype=storable_dtype(path, self.dtype),
            voxel_size=voxel_size,
            files=(path,),
            channels=self.size("c"),
            channel_names=channel_names,
            times=self.size("t"),
            metadata=metadata,
        )

    def read(self, file: IO[bytes], roi: Roi, choice: Choice) -> npt.NDArray[Any]:
        """Return a copy of a region, (z, y, x), in the machine's byte order."""
        array = np.memmap(file, self.dtype, mode="r", offset=self.offset, shape=self.sizes)
        place: dict[str, slice | int] = dict(zip("zyx", roi.slices, strict=True))
        place |= {"c": choice.channel or 0, "t": choice.time or 0}
        block = array[tuple(place[axis] for axis in self.axes)]
        return np.array(block, self.dtype.newbyteorder("=")).reshape(roi.shape)


class RawReader(VolumeReader):
    """A reader whose file holds the voxels as one array, plain or gzipped as a whole."""

    path: Path
    NONSENSE: ClassVar[tuple[type[Exception], ...]] = ()
    """What the format's library raises on damaged files, besides Python's usual exceptions."""

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with explain_damage(path, *self.NONSENSE), ExitStack() as opened:
            self._array, self._info = self._describe()
            self._array.check_sizes(path)
            self._file = opened.enter_context(self._open())
            self._array.check_end(path, self._file.seek(0, 2))
            self._opened = opened.pop_all()

    @abstractmethod
    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        """Return what the header tells."""

    def _open(self) -> IO[bytes]:
        """Return the open file in which the array lies."""
        if is_gzipped(self.path):
            return gunzipped(self.path, self._array.end)
        return self.path.open("rb")

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region; no others are read."""
        roi.check_within(self.info.shape)
        with explain_damage(self.path):
            return self._array.read(self._file, roi, self.choice)

    def close(self) -> None:
        """Close the file; a temporary one is gone with it."""
        self._opened.close()
