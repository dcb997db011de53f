"""What every writer of a volume format offers."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from biosegment.disk import explain_full_disk
from biosegment.errors import ExportError
from biosegment.geometry import Roi, VoxelSize
from exporters.ahead import ahead


@dataclass(frozen=True, slots=True)
class LabelClass:
    """What one value of a label volume means."""

    value: int
    """At least 1; 0 is background."""
    name: str
    """As in the project."""
    colour: tuple[int, int, int]
    """Red, green and blue, each 0 to 255."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Intensities or label values to be written; nothing is read before a writer asks for it."""

    name: str
    """What it shows, for programs that list layers."""
    shape: tuple[int, int, int]
    """Extent (z, y, x) in voxels."""
    dtype: np.dtype[Any]
    """Real number type; of labels an unsigned integer."""
    voxel_size: VoxelSize | None
    """None where unknown."""
    read: Callable[[Roi], npt.NDArray[Any]]
    """Returns the voxels of a region, of `dtype` and of the region's shape (z, y, x)."""
    window: tuple[float, float] = (0.0, 255.0)
    """Intensities to be shown as black and as white."""
    classes: tuple[LabelClass, ...] = ()
    """What the values mean; none for intensities, and for labels whose values number objects."""

    def planes(self, dtype: npt.DTypeLike = None) -> Iterator[npt.NDArray[Any]]:
        """Yield slice by slice, (y, x), from the first; of `dtype`, else of the layer's.

        The next one is read meanwhile, by a thread.
        """
        wanted = np.dtype(self.dtype if dtype is None else dtype)
        rois = (Roi.slice_of(self.shape, z) for z in range(self.shape[0]))
        return ahead(self.read(roi)[0].astype(wanted, copy=False) for roi in rois)

    def part(self, region: Roi) -> "Layer":
        """Return what lies in a region, as a layer of its own."""

        def read(roi: Roi) -> npt.NDArray[Any]:
            return self.read(Roi(region.z + roi.z, region.y + roi.y, region.x + roi.x, *roi.shape))

        return replace(self, shape=region.shape, read=read)


class VolumeWriter(ABC):
    """Writes files of one format, slice by slice, so that a volume of any size fits in memory.

    Parameters
    ----------
    to_edit
        Whether the labels are to be changed in another program and brought back. Then nothing is
        made of them that would be out of date as soon as they are.
    """

    IMAGE_SUFFIX: ClassVar[str | None] = None
    """Ending of a file with intensities; None if the format holds labels only."""
    LABELS_SUFFIX: ClassVar[str]
    """Ending of a file with labels."""
    TOGETHER: ClassVar[bool] = False
    """Whether one file, with the ending of labels, holds intensities and labels as layers."""
    LABELS_DATASET: ClassVar[str | None] = None
    """Where in such a file the labels are: a path, as a reader is told it."""
    LABELS_CHANNEL: ClassVar[int | None] = None
    """Where in such a file the labels are: a channel, from 0."""
    IMAGE_DTYPES: ClassVar[tuple[str, ...]] = ("uint8", "uint16", "float32")
    """Types of intensities that the format, and the programs that read it, take."""
    LABELS_DTYPES: ClassVar[tuple[str, ...]] = ("uint8", "uint16")
    """Types of label values, the smallest first."""
    COMES_BACK: ClassVar[bool] = True
    """Whether label values can be read from such a file again, voxel by voxel."""

    def __init__(self, *, to_edit: bool = False) -> None:
        self.to_edit = to_edit

    def labels_suffix(self, labels: Layer) -> str:
        """Return the ending of a file with these labels; nothing is read."""
        return self.LABELS_SUFFIX

    def labels_dtypes(self, labels: Layer) -> tuple[str, ...]:
        """Return the types that values of such labels may have; nothing is read."""
        return self.LABELS_DTYPES

    def notices(self, labels: Layer) -> tuple[str, ...]:
        """Return what the format does to such labels that the user has to know; nothing is read.

        Each is a sentence without its full stop.
        """
        return ()

    def write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        """Write a file, or a folder, that is whole or not there at all; replaces what is there.

        Parameters
        ----------
        path
            Has the ending that belongs to its content; its folder exists.
        image, labels
            One of them; both only where :attr:`TOGETHER` says so.

        Raises
        ------
        ExportError
            If the format cannot hold this.
        DiskFullError
            If it does not fit on the disk.
        """
        with self.written(path, image, labels):
            pass

    @contextmanager
    def written(self, path: Path, image: Layer | None, labels: Layer | None) -> Iterator[None]:
        """Do the same, but let the file move to its place only where the block ends well."""
        self.check(path, image, labels)
        with explain_full_disk(path.parent), _replaced(path) as partial:
            self._write(partial, image, labels)
            yield

    def check(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        """Raise ExportError if the format cannot hold this; nothing is read or written."""
        if image is not None and self.IMAGE_SUFFIX is None:
            raise ExportError(str(path), "this format holds labels only")
        if image is not None and labels is not None and not self.TOGETHER:
            raise ExportError(str(path), "this format holds intensities or labels, not both")
        if image is not None:
            self._check_dtype(path, image, self.IMAGE_DTYPES)
        if labels is not None:
            self._check_dtype(path, labels, self.labels_dtypes(labels))

    @abstractmethod
    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        """Write the file, under a name that it does not keep; nothing is there yet."""

    def _check_dtype(self, path: Path, layer: Layer, dtypes: tuple[str, ...]) -> None:
        if writable_dtype(layer.dtype, dtypes) is None:
            reason = f"{layer.name} is {layer.dtype}, and this format takes {', '.join(dtypes)}"
            raise ExportError(str(path), reason)


def writable_dtype(dtype: npt.DTypeLike, allowed: tuple[str, ...]) -> np.dtype[Any] | None:
    """Return the first of the allowed types that holds every value of `dtype`; None if none does.

    Examples
    --------
    >>> writable_dtype("int16", ("uint8", "uint16", "float32"))
    dtype('float32')
    """
    if str(np.dtype(dtype)) in allowed:
        return np.dtype(dtype)
    return next((np.dtype(name) for name in allowed if np.can_cast(dtype, name, "safe")), None)


def renamed(names: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what to tell of names of classes, each with what stands for it in the file.

    Examples
    --------
    >>> renamed([("my label", "my_label"), ("ER", "ER")])
    ('Names that the format cannot hold were changed: "my label" is "my_label"',)
    """
    changed = [f'"{name}" is "{written}"' for name, written in names if name != written]
    if not changed:
        return ()
    return (f"Names that the format cannot hold were changed: {', '.join(changed)}",)


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Lend a name beside `path`, and put what was written there in its place."""
    # The ending stays: libraries go by it.
    partial = path.with_name(f".partial-{path.name}")
    _remove(partial)
    try:
        yield partial
        if path.is_dir() or partial.is_dir():
            _remove(path)
        partial.replace(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
