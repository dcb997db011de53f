"""Leica LIF files.

Read with liffile (BSD, the extra ``lif``). Of several images in a file one has to be chosen by its
path, such as ``Collection/Series 1``.

Cannot be read: lifetime images, mosaics and spectra, XZ scans, the newer formats XLEF and LOF.

References
----------
.. [1] https://github.com/cgohlke/liffile
"""

import math
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize, nm_per_unit
from importers.base import Choice, VolumeInfo, VolumeReader, storable_dtype
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.optional import optional_module

_HEAD = struct.Struct("<IIBI")
_MAGIC = (0x70, 0x2A)
_DESCRIPTION = "./Data/Image/ImageDescription"
# How the file numbers its axes.
_AXES = {"z": "3", "y": "2", "x": "1"}


class LifReader(VolumeReader):
    """An image of a LIF file as a volume."""

    path: Path
    SUFFIXES = (".lif",)
    EXTRA = "lif"

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        library = optional_module("liffile", path.name, "lif")
        with path.open("rb") as file, explain_damage(path):
            *_, letters = _HEAD.unpack(file.read(_HEAD.size))
            if 2 * letters > file.seek(0, 2):
                raise UnreadableFileError(str(path), f"its header says it has {letters} letters")
        with explain_damage(path), ExitStack() as opened:
            lif = opened.enter_context(library.LifFile(path, squeeze=False))
            images = {image.path: image for image in lif.images if not image.is_flim}
            self._image = images[chosen_dataset(path, images, choice.dataset)]
            self._info = self._checked_info()
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a LIF file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            content = file.read(_HEAD.size)
        if len(content) == _HEAD.size and _HEAD.unpack(content)[0:3:2] == _MAGIC:
            return None
        return "it does not begin like a LIF file"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def _checked_info(self) -> VolumeInfo:
        sizes: dict[str, int] = self._image.sizes
        others = [axis for axis in sizes if axis not in "TCZYXS" and sizes[axis] > 1]
        if others or {"Y", "X"} - set(self._image.frames.frame_sizes) or min(sizes.values()) < 1:
            reason = f"its axes are {', '.join(f'{axis} {size}' for axis, size in sizes.items())}"
            raise UnreadableFileError(str(self.path), f"{reason}; not z, y and x")
        memory = self._image.memory_block
        wanted = math.prod(sizes.values()) * self._image.dtype.itemsize
        if wanted > memory.size or memory.offset + memory.size > self.path.stat().st_size:
            reason = f"it is cut off: {wanted} bytes of voxels from byte {memory.offset}"
            raise UnreadableFileError(str(self.path), reason)
        channels = self._image.xml_element.findall(f"{_DESCRIPTION}/Channels/ChannelDescription")
        names = tuple(channel.get("LUTName", "") for channel in channels)
        count = sizes.get("C", 1) * sizes.get("S", 1)
        return VolumeInfo(
            shape=(sizes.get("Z", 1), sizes["Y"], sizes["X"]),
            dtype=storable_dtype(self.path, self._image.dtype),
            voxel_size=_voxel_size(self._image),
            files=(self.path,),
            channels=count,
            channel_names=names if len(names) == count > 1 else (),
            times=sizes.get("T", 1),
            dataset=self._image.path,
        )

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, slice by slice."""
        roi.check_within(self.info.shape)
        sizes = self._image.sizes
        channel, sample = divmod(self.choice.channel or 0, sizes.get("S", 1))
        place = {"T": self.choice.time or 0, "C": channel}
        block = np.empty(roi.shape, self.info.dtype)
        for index in range(roi.depth):
            place["Z"] = roi.z + index
            with explain_damage(self.path, what=f"slice {place['Z']} is damaged"):
                frame = self._image.frame(**{axis: place[axis] for axis in place if axis in sizes})
                pixels = frame[..., sample] if "S" in sizes else frame
                block[index] = pixels[roi.slices[1:]]
        return block

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _voxel_size(image: Any) -> VoxelSize | None:  # noqa: ANN401 (of the library)
    """Return the voxel size; lengths reach from the first voxel's centre to the last one's."""
    edges = []
    for number in _AXES.values():
        place = f"{_DESCRIPTION}/Dimensions/DimensionDescription[@DimID='{number}']"
        axis = image.xml_element.find(place)
        steps = 0 if axis is None else int(axis.get("NumberOfElements", "1")) - 1
        if axis is None or steps < 1:
            return None
        length = abs(float(axis.get("Length", "nan")))
        edges.append(length / steps * (nm_per_unit(axis.get("Unit", "")) or 0.0))
    try:
        return VoxelSize(*edges)
    except ValueError:
        return None
