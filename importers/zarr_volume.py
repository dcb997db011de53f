"""OME-Zarr 0.1 to 0.5 and plain Zarr arrays, versions 2 and 3, in a folder, zip file or address.

Read with zarr-python, chunk by chunk. The full resolution of an image is taken unless another
level (``--dataset 1``) or a label image (``--dataset labels/cells``) is chosen. Chunks that are not
there read as the array's fill value, as both specifications want it: so a missing file cannot be
told from an area that was never written.

Cannot be read: transformations other than scales; plates behind addresses that do not list their
folders.

References
----------
.. [1] https://zarr-specs.readthedocs.io, https://ngff.openmicroscopy.org/0.5/

Examples
--------
>>> import zarr, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.zarr"
>>> array = zarr.create_array(path, shape=(2, 3, 4), dtype="uint8")
>>> with ZarrReader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.errors import NodeNotFoundError, ZarrUserWarning

from biosegment.checked_blosc import CONFIGURATION, with_checks
from biosegment.errors import LinkError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from biosegment.linked import Link
from importers.array_reader import ArrayReader
from importers.attributes import axis_names, letters, texts, voxel_size
from importers.axes import Axes
from importers.base import Choice, VolumeInfo, storable_dtype
from importers.chunk_store import is_zip, open_store, root_in, settled
from importers.damage import explain_damage
from importers.fingerprint import sample_fingerprint
from importers.zarr_tree import FoundArray, Node, find_array


class ZarrReader(ArrayReader):
    """An array of a Zarr tree as a volume."""

    SUFFIXES: ClassVar[tuple[str, ...]] = (".zarr", ".zarr.zip", ".ozx")
    REMOTE = True
    MARKS: ClassVar[tuple[str, ...]] = ("zarr.json", ".zgroup", ".zarray")
    """Files one of which lies in the folder of a tree."""
    ORDER: ClassVar[str] = "zyx"
    """What three axes without names are."""
    VERSION: ClassVar[Literal[2, 3] | None] = None
    """Of Zarr; None: whatever is found."""

    def __init__(self, path: Path | str, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with ExitStack() as opened:
            root = opened.enter_context(self._opened_root(path))
            with _explain(path):
                if root is None:
                    raise UnreadableFileError(str(path), f"it has no {' or '.join(self.MARKS)}")
                found = find_array(path, root, choice.dataset)
                self._array = with_checks(found.array)
                self._axes = Axes.of(path, found.array.shape, _axis_names(found), self.ORDER)
                self._info = self._describe(found)
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path | str) -> str | None:
        """Return why there is no such tree, None if there is."""
        if isinstance(path, Path) and not path.is_dir() and not is_zip(path):
            return "it is neither a folder nor a zip file"
        try:
            with cls._opened_root(path) as root:
                return f"it has no {' or '.join(cls.MARKS)}" if root is None else None
        except UnreadableFileError:
            # It is one, and damaged: opening it tells how.
            return None

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region; only the chunks that it touches are fetched."""
        with settled():
            return super().read(roi)

    def link(self) -> Link:
        """Return where the volume can be read in place: an array in a folder."""
        if not isinstance(self.path, Path) or not self.path.is_dir():
            raise LinkError(str(self.path), "only folders of Zarr stay where they are")
        return Link("zarr", os.path.abspath(self.path), self.info.dataset or "", self.link_index())

    def fingerprint(self) -> str:
        """Return a hash of what is known of the volume and of a sample of its voxels."""
        info = self.info
        channel, time = self.choice.channel or 0, self.choice.time or 0
        facts = (info.dataset, info.dtype.str, info.voxel_size, channel, time)
        return sample_fingerprint(facts, info.shape, info.chunks or info.shape, self.read)

    def close(self) -> None:
        """Close the zip file, if it is one; connections end with the reader."""
        self._opened.close()

    @classmethod
    @contextmanager
    def _opened_root(cls, path: Path | str) -> Iterator[Node | None]:
        """Open the tree for as long as it is used; None if there is none."""
        with ExitStack() as opened:
            with _explain(path):
                inside = root_in(path, cls.MARKS)
                store = cls._store(path)
                opened.callback(store.close)
                try:
                    root = zarr.open(store=store, path=inside, mode="r", zarr_format=cls.VERSION)
                except NodeNotFoundError:
                    root = None
            yield root

    @classmethod
    def _store(cls, path: Path | str) -> Store:
        return open_store(path)

    def _describe(self, found: FoundArray) -> VolumeInfo:
        image = found.image
        channels = self._axes.size("c")
        channel_names = image.channel_names if image else ()
        name = {"name": image.name} if image and image.name else {}
        return VolumeInfo(
            shape=self._axes.shape,
            dtype=storable_dtype(self.path, found.array.dtype),
            voxel_size=_voxel_size(found, self._axes.names),
            files=(self.path,) if isinstance(self.path, Path) else (),
            channels=channels,
            channel_names=channel_names if len(channel_names) == channels else (),
            times=self._axes.size("t"),
            dataset=found.path or None,
            chunks=self._axes.zyx(found.array.chunks, 1),
            metadata={**name, **texts(found.attributes)},
            label_names=image.label_names if image else {},
        )


@contextmanager
def _explain(path: Path | str) -> Iterator[None]:
    """Turn what damaged metadata leads to into one error; be quiet about files that are no part."""
    with (
        explain_damage(path),
        settled(),
        warnings.catch_warnings(),
        zarr.config.set(CONFIGURATION),
    ):
        warnings.simplefilter("ignore", ZarrUserWarning)
        yield


def _axis_names(found: FoundArray) -> str | None:
    if found.image is not None:
        return found.image.axes
    count = found.array.ndim
    named: Any = getattr(found.array.metadata, "dimension_names", None) or ()
    return letters(named, count) or axis_names(found.attributes, count)


def _voxel_size(found: FoundArray, names: str) -> VoxelSize | None:
    if found.image is not None:
        return found.image.voxel_size(found.level)
    if found.is_coarse and not {"downsamplingFactors", "transform"} & set(found.attributes):
        # What stands in the groups above is the voxel size of the full resolution.
        return None
    return voxel_size(found.attributes, names)
