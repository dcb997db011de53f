"""Volumes in HDF5 files: ilastik, CREMI, BigDataViewer, ImageJ, MATLAB 7.3 and others.

The only array of 3 to 5 axes in a file is taken; of several, one has to be chosen by its path.
Axes are those of ``axistags``, else three axes are z, y, x.
BigDataViewer's coarser levels do not count as volumes of their own, and its voxels, which are
marked as signed, are unsigned. Blocks that were never written read as the file's fill value. What
label values mean may stand in an attribute ``label_names``, JSON such as ``{"1": "vesicle"}``.

Cannot be read: voxels in other files (external storage, virtual datasets), compression by plug-ins
that are not part of HDF5, more than one channel without names of the axes.

References
----------
.. [1] https://support.hdfgroup.org/documentation/hdf5/latest/_s_p_e_c.html
.. [2] https://imagej.net/plugins/bdv/#about-the-bigdataviewer-data-format

Examples
--------
>>> import h5py, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.h5"
>>> with h5py.File(path, "w") as file:
...     file["volumes/raw"] = [[[1, 2], [3, 4], [5, 6]]]
>>> with Hdf5Reader(path) as stack:
...     stack.info.shape, stack.info.dataset
((1, 3, 2), 'volumes/raw')
"""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from biosegment.errors import LinkError, UnreadableFileError
from biosegment.linked import Link
from importers.array_reader import ArrayReader
from importers.attributes import axis_names, label_names, texts, voxel_size
from importers.axes import Axes
from importers.base import Choice, VolumeInfo, storable_dtype
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.hdf5_attributes import hdf5_attributes

# Slices are read one after the other, and blocks reach over several of them.
_CACHE_BYTES = 2**27
_CACHE_SLOTS = 100_003
_MOST_CANDIDATES = 1000
_BIG_DATA_VIEWER = re.compile(r"t\d+/s\d+/(\d+)/cells")


class Hdf5Reader(ArrayReader):
    """A dataset of an HDF5 file as a volume."""

    SUFFIXES = (".h5", ".hdf5", ".hdf")

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with explain_damage(path), ExitStack() as opened:
            file = opened.enter_context(open_hdf5(path))
            name = _only_volume(path, file, choice.dataset)
            self._array = file[name]
            check_stored(path, self._array)
            attributes = hdf5_attributes(path, self._array)
            names = _axis_names(attributes, self._array.ndim)
            self._axes = Axes.of(path, self._array.shape, names)
            self._info = VolumeInfo(
                shape=self._axes.shape,
                dtype=storable_dtype(path, _dtype(name, self._array.dtype)),
                voxel_size=voxel_size(attributes, self._axes.names),
                files=(path,),
                channels=self._axes.size("c"),
                times=self._axes.size("t"),
                dataset=name,
                chunks=self._array.chunks and self._axes.zyx(self._array.chunks, 1),
                metadata=texts(attributes),
                label_names=label_names(attributes),
            )
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not an HDF5 file, None if it is."""
        if path.is_file() and h5py.is_hdf5(path):
            return None
        return "it does not begin like an HDF5 file"

    def link(self) -> Link:
        """Return where the volume can be read in place: an array that is cut into blocks."""
        if self._array.chunks is None:
            raise LinkError(str(self.path), "it is not cut into blocks")
        return Link("hdf5", os.path.abspath(self.path), self.info.dataset or "", self.link_index())

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def open_hdf5(path: Path) -> Any:  # noqa: ANN401 (h5py has no types)
    """Return an HDF5 file, open for reading, with room for the blocks of a row of chunks."""
    return h5py.File(
        path, locking="best-effort", rdcc_nbytes=_CACHE_BYTES, rdcc_nslots=_CACHE_SLOTS
    )


def _only_volume(path: Path, file: Any, chosen: str | None) -> str:  # noqa: ANN401
    """Return the path of the dataset that is chosen, or the only one there is."""
    name = "" if chosen is None else chosen.strip("/")
    node = file.get(name or "/")
    if isinstance(node, h5py.Dataset):
        return name
    known = _volumes_below(file if node is None else node)
    if not known:
        raise UnreadableFileError(str(path), "it holds no array of 3 to 5 axes of numbers")
    return chosen_dataset(path, known, chosen if node is None else None)


def _volumes_below(group: Any) -> list[str]:  # noqa: ANN401
    """Return the paths of all datasets below a group that could be volumes."""
    found: list[str] = []

    def look(name: str, node: object) -> bool | None:
        if isinstance(node, h5py.Dataset) and _could_be_volume(node):
            found.append(f"{group.name}/{name}".strip("/"))
        # Anything but None ends the search.
        return len(found) >= _MOST_CANDIDATES or None

    group.visititems(look)
    return found


def _could_be_volume(dataset: Any) -> bool:  # noqa: ANN401
    level = _BIG_DATA_VIEWER.fullmatch(dataset.name.strip("/"))
    if level and int(level[1]) > 0:
        return False
    shape = dataset.shape or ()
    extended = sum(size > 1 for size in shape)
    return 3 <= len(shape) <= 5 and min(shape) > 0 and extended > 1 and dataset.dtype.kind in "iufb"


def check_stored(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Raise UnreadableFileError if voxels lie elsewhere or need a filter that is not there."""
    virtual = dataset.virtual_sources() if dataset.is_virtual else []
    if dataset.external or any(source.file_name != "." for source in virtual):
        raise UnreadableFileError(str(path), "its voxels lie in other files; copy them into one")
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, _, name = properties.get_filter(index)
        if not h5py.h5z.filter_avail(number):
            filter_name = name.decode("utf-8", "replace") or str(number)
            reason = (
                f"its voxels are compressed by {filter_name}, which is no part of HDF5; save them "
                "with gzip (h5repack can)"
            )
            raise UnreadableFileError(str(path), reason)


def _axis_names(attributes: Mapping[str, Any], count: int) -> str | None:
    names = axis_names(attributes, count)
    if names is None and "MATLAB_class" in attributes and count == 3:
        # A stack of rows, columns, slices; MATLAB stores the last of its axes first.
        return "zxy"
    return names


def _dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that is meant: BigDataViewer marks unsigned numbers as signed."""
    if _BIG_DATA_VIEWER.fullmatch(name) and dtype.kind == "i":
        return np.dtype(f"u{dtype.itemsize}")
    return dtype
