"""Imaris 5.5 files (.ims), read with h5py.

Blocks are padded in the file: the volume is what ``ImageSizeX``, ``Y`` and ``Z`` say. The extents
are its outer edges, so that a voxel is an extent divided by the number of voxels. The full
resolution is read unless another level is chosen, such as ``ResolutionLevel 1``.

Cannot be read: surfaces, spots and filaments; blocks compressed by LZ4.

References
----------
.. [1] Imaris 5.5 file format, https://github.com/imaris/ImarisWriter/tree/master/doc

Examples
--------
The names of the channels of a file::

    with ImsReader(Path("cells.ims")) as stack:
        print(stack.info.channel_names)
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
from natsort import natsorted

from biosegment.errors import ChoiceError, UnreadableFileError
from biosegment.geometry import VoxelSize, nm_per_unit
from importers.array_reader import ArrayReader
from importers.attributes import decoded
from importers.axes import Axes
from importers.base import Choice, VolumeInfo, describe_shape, storable_dtype
from importers.damage import explain_damage
from importers.hdf5 import check_stored, open_hdf5
from importers.hdf5_attributes import hdf5_attributes

_UNSAID = "not specified)"
_REMARKS = ("Name", "Description", "RecordingDate")


class ImsReader(ArrayReader):
    """A channel of an Imaris file as a volume."""

    SUFFIXES = (".ims",)

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with explain_damage(path), ExitStack() as opened:
            file = opened.enter_context(open_hdf5(path))
            level = _level(path, file["DataSet"], choice.dataset)
            times = natsorted(file["DataSet"][level])
            channels = file["DataSet"][level][_chosen(times, choice.time)]
            channel = channels[_chosen(natsorted(channels), choice.channel)]
            self._array = channel["Data"]
            check_stored(path, self._array)
            self._axes = Axes.of(path, self._array.shape, "zyx")
            shape = _shape(path, channel, self._axes.shape)
            image = _texts(path, file["DataSetInfo/Image"])
            self._info = VolumeInfo(
                shape=shape,
                dtype=storable_dtype(path, self._array.dtype),
                voxel_size=_voxel_size(image, shape),
                files=(path,),
                channels=len(channels),
                channel_names=_channel_names(path, file["DataSetInfo"], len(channels)),
                times=len(times),
                dataset=level,
                chunks=self._array.chunks,
                metadata=_remarks(image),
            )
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not an Imaris file, None if it is."""
        if not path.is_file() or not h5py.is_hdf5(path):
            return "it does not begin like an HDF5 file"
        with explain_damage(path), h5py.File(path, locking="best-effort") as file:
            if {"DataSet", "DataSetInfo"} <= set(file):
                return None
        return "it holds no DataSet and DataSetInfo of Imaris"

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _level(path: Path, levels: Mapping[str, Any], chosen: str | None) -> str:
    name = "ResolutionLevel 0" if chosen is None else chosen.split("/")[-1]
    if name not in levels:
        raise ChoiceError(str(path), "dataset", tuple(natsorted(levels)), name)
    return name


def _chosen(names: list[str], index: int | None) -> str:
    """Return the name that is chosen; the first one if it is not there, which is told later."""
    return names[index if index is not None and 0 <= index < len(names) else 0]


def _shape(path: Path, channel: Any, stored: tuple[int, int, int]) -> tuple[int, int, int]:  # noqa: ANN401
    """Return the extent of the image, without the padding of the blocks."""
    texts = _texts(path, channel)
    depth, height, width = (int(texts[f"ImageSize{axis}"]) for axis in "ZYX")
    shape = (depth, height, width)
    if not all(1 <= size <= held for size, held in zip(shape, stored, strict=True)):
        reason = f"it says it is {describe_shape(shape)} voxels and holds {describe_shape(stored)}"
        raise UnreadableFileError(str(path), reason)
    return shape


def _voxel_size(texts: Mapping[str, str], shape: tuple[int, int, int]) -> VoxelSize | None:
    nm = nm_per_unit(texts.get("Unit", ""))
    if nm is None:
        return None
    try:
        extents = [float(texts[f"ExtMax{axis}"]) - float(texts[f"ExtMin{axis}"]) for axis in "210"]
        return VoxelSize(*(nm * extent / size for extent, size in zip(extents, shape, strict=True)))
    except (KeyError, ValueError):
        return None


def _channel_names(path: Path, info: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of all channels; none if one of them has no name."""
    names = [
        _texts(path, info[group]).get("Name", "") if (group := f"Channel {index}") in info else ""
        for index in range(count)
    ]
    return tuple(names) if all(names) else ()


def _remarks(texts: Mapping[str, str]) -> dict[str, str]:
    kept = {name: texts.get(name, "") for name in _REMARKS}
    return {name: text for name, text in kept.items() if text and not text.endswith(_UNSAID)}


def _texts(path: Path, group: Any) -> dict[str, str]:  # noqa: ANN401 (h5py has no types)
    """Return the attributes of a group that are texts; Imaris writes arrays of single bytes."""
    texts = {
        name: decoded(b"".join(value)) if isinstance(value, list) else str(value)
        for name, value in hdf5_attributes(path, group).items()
        if not isinstance(value, list) or all(isinstance(item, bytes) for item in value)
    }
    return {name: text.strip("\0 ") for name, text in texts.items()}
