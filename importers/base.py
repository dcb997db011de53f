"""What every reader of a volume format offers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """What is known of a volume before any of its voxels is read."""

    shape: tuple[int, int, int]
    """Extent (z, y, x) in voxels, each at least 1."""
    dtype: np.dtype[Any]
    """Real number type, in the machine's byte order."""
    voxel_size: VoxelSize | None
    """None where the file does not tell, or tells nonsense."""
    files: tuple[Path, ...]
    """The files that the voxels come from."""


class VolumeReader(ABC):
    """One volume of one channel in a file or folder; open from creation to :meth:`close`.

    Creating a reader checks all that can be checked without decoding voxels, so that a damaged
    file is refused before anything is made of it. Readers pickle: the copy opens the file anew.

    Parameters
    ----------
    path
        The file or folder.

    Raises
    ------
    UnreadableFileError
        If the file is damaged or holds something else than one volume of real numbers.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    """Endings of file names, lower case, that this reader is asked for first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """What was opened."""

    @classmethod
    @abstractmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a file of this kind, by its first bytes; None if it is."""

    @property
    @abstractmethod
    def info(self) -> VolumeInfo:
        """What is known of the volume."""

    @abstractmethod
    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region.

        Returns
        -------
        ndarray of ``info.dtype``, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        RegionError
            If the region leaves the volume.
        UnreadableFileError
            If the voxels cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all files; closing again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return (type(self), (self.path,))


def storable_dtype(path: Path, dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the type that voxels of `dtype` are stored in: native byte order, no booleans.

    Raises
    ------
    UnreadableFileError
        If `dtype` is no real number.
    """
    kind = np.dtype(dtype)
    if kind == np.bool_:
        return np.dtype(np.uint8)
    if kind.kind not in "iuf":
        raise UnreadableFileError(str(path), f"its values are {kind}, not real numbers")
    return kind.newbyteorder("=")


def describe_shape(shape: Sequence[int]) -> str:
    """Return a shape as people write it: ``20 x 1024 x 1024``."""
    return " x ".join(str(size) for size in shape)
