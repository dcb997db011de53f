"""What every reader of a volume format offers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biosegment.errors import ChoiceError, LinkError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from biosegment.linked import Link
from importers.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several volumes in a file is meant; None: the only one there is."""

    dataset: str | None = None
    """Its path inside the file."""
    channel: int | None = None
    """From 0."""
    time: int | None = None
    """From 0."""


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
    channels: int = 1
    """How many channels, or colour samples, to choose from."""
    channel_names: tuple[str, ...] = ()
    """Their names in order; empty where the file does not tell."""
    times: int = 1
    """How many time points to choose from."""
    dataset: str | None = None
    """Where in the file the volume lies, if it can hold several."""
    chunks: tuple[int, int, int] | None = None
    """Extent (z, y, x) of the blocks that can be decoded alone; None for whole slices."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the file tells of the acquisition, as text: dwell time, instrument, …"""
    label_names: Mapping[int, str] = field(default_factory=dict)
    """What values mean, where the file tells: it then holds labels."""
    notices: tuple[str, ...] = ()
    """What its owner should know of it, each a sentence without its full stop."""


class VolumeReader(ABC):
    """One volume of one channel in a file or folder; open from creation to :meth:`close`.

    Creating a reader checks all that can be checked without decoding voxels, so that a damaged
    file is refused before anything is made of it. Readers pickle: the copy opens the file anew.

    Parameters
    ----------
    path
        The file or folder; for readers that are REMOTE also an address, as str.
    choice
        Which volume of those in it.

    Raises
    ------
    ChoiceError
        If it holds several datasets and none of them was chosen, or one that is not there.
    UnreadableFileError
        If the file is damaged or holds no volume of real numbers.
    """

    SUFFIXES: ClassVar[tuple[str, ...]] = ()
    """Endings of file names, lower case, that this reader is asked for first."""
    EXTRA: ClassVar[str | None] = None
    """The optional extra of the package that installs what it reads with; None: always there."""
    REMOTE: ClassVar[bool] = False
    """Whether it, and its :meth:`refusal`, take addresses as well: ``https://…`` or ``s3://…``."""

    def __init__(self, path: Path | str, choice: Choice = Choice()) -> None:
        self.path = path
        """What was opened."""
        self.choice = choice
        """Which volume of those in it."""

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
        """Return the voxels of a region of the chosen channel and time point, else the first.

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

    def read_labels(self, roi: Roi) -> npt.NDArray[Any]:
        """Return a region as :meth:`read` does, but of label values: exactly those in the file.

        They differ where intensities are inverted to look right, which labels must not be.
        """
        return self.read(roi)

    def check_choice(self) -> None:
        """Make sure that the channel and time point that were chosen are there.

        Raises
        ------
        ChoiceError
            If one of them is not.
        """
        for axis, names, chosen in self._choices():
            if chosen is not None and not 0 <= chosen < len(names):
                raise ChoiceError(str(self.path), axis, names, chosen)

    def check_chosen(self) -> None:
        """Make sure that the choice leaves exactly one volume.

        Raises
        ------
        ChoiceError
            If one of several channels or time points has to be chosen, or was and is not there.
        """
        self.check_choice()
        for axis, names, chosen in self._choices():
            if chosen is None and len(names) > 1:
                raise ChoiceError(str(self.path), axis, names, chosen)

    def _choices(self) -> Iterator[tuple[str, list[str], int | None]]:
        """Yield each axis to choose on, what there is along it, and what was chosen."""
        channels = [str(index) for index in range(self.info.channels)]
        for index, name in enumerate(self.info.channel_names):
            channels[index] += f" {name}"
        yield "channel", channels, self.choice.channel
        yield "time", [str(index) for index in range(self.info.times)], self.choice.time

    def link(self) -> Link:
        """Return where the chosen volume can be read in place.

        Raises
        ------
        LinkError
            If it has to be copied: not cut into blocks, or not stored as it is to be seen.
        """
        raise LinkError(str(self.path), "volumes of this format are copied")

    def fingerprint(self) -> str:
        """Return what tells this volume from others, without reading all of it."""
        return fingerprint(self.info.files)

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

    def __reduce__(self) -> tuple[type[Self], tuple[Path | str, Choice]]:
        return (type(self), (self.path, self.choice))


def storable_dtype(path: Path | str, dtype: npt.DTypeLike) -> np.dtype[Any]:
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
