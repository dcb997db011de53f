"""Nikon ND2 files of NIS-Elements since 2010.

Read with the library nd2 (BSD, the extra ``nd2``). Of several stage positions in a file one has to
be chosen by its number. Colour samples are channels.

Cannot be read: files from before 2010, which hold JPEG 2000; files with frames missing.

References
----------
.. [1] https://github.com/tlambert03/nd2
"""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape, storable_dtype
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.optional import optional_module

_MAGIC = b"\xda\xce\xbe\x0a"
_OLD_MAGIC = b"\0\0\0\x0cjP  "
_NM_PER_UM = 1e3
# A frame stands this far behind the start of its chunk.
_BEFORE_FRAME_BYTES = 4096
_MOST_COMPRESSED = 1100


class Nd2Reader(VolumeReader):
    """One stage position of an ND2 file as a volume."""

    path: Path
    SUFFIXES = (".nd2",)
    EXTRA = "nd2"

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        library = optional_module("nd2", path.name, "nd2")
        with explain_damage(path), ExitStack() as opened:
            self._nd2 = opened.enter_context(library.ND2File(path))
            positions = map(str, range(self._nd2.sizes.get("P", 1)))
            self._position = int(chosen_dataset(path, positions, choice.dataset))
            self._info = self._checked_info()
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not an ND2 file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            content = file.read(len(_OLD_MAGIC))
        if content == _OLD_MAGIC:
            return "it is JPEG 2000, as ND2 files were before 2010; save it anew with NIS-Elements"
        return None if content.startswith(_MAGIC) else "it does not begin like an ND2 file"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def _checked_info(self) -> VolumeInfo:
        sizes, attributes = self._nd2.sizes, self._nd2.attributes
        loops = {axis: size for axis, size in sizes.items() if axis not in "CYXS"}
        if set(loops) - set("TPZ"):
            reason = f"its axes are {', '.join(f'{axis} {size}' for axis, size in sizes.items())}"
            raise UnreadableFileError(str(self.path), f"{reason}; not time, positions and z")
        self._loops = loops
        self._check_frames(math.prod(loops.values()))
        channels = attributes.channelCount or 1
        self._samples = attributes.componentCount // channels
        names = tuple(channel.channel.name for channel in self._nd2.metadata.channels or ())
        return VolumeInfo(
            shape=(loops.get("Z", 1), attributes.heightPx, attributes.widthPx),
            dtype=storable_dtype(self.path, self._nd2.dtype),
            voxel_size=_voxel_size(self._nd2.metadata),
            files=(self.path,),
            channels=channels * self._samples,
            channel_names=names if len(names) == channels * self._samples else (),
            times=loops.get("T", 1),
            dataset=str(self._position) if "P" in loops else None,
            metadata={name: str(text) for name, text in self._nd2.text_info.items()},
        )

    def _check_frames(self, count: int) -> None:
        """Refuse missing frames, which the library gives as zeros without a word."""
        attributes = self._nd2.attributes
        size = attributes.heightPx * attributes.widthBytes
        row = attributes.widthPx * attributes.componentCount * self._nd2.dtype.itemsize
        end = self.path.stat().st_size
        packed = attributes.compressionType == "lossless"
        most = _MOST_COMPRESSED * end if packed else end
        if min(size, row) < 1 or row > attributes.widthBytes or size > most:
            shape = describe_shape((attributes.heightPx, attributes.widthPx))
            raise UnreadableFileError(str(self.path), f"it says a slice is {shape} pixels")
        chunks = self._nd2._rdr.chunkmap
        for index in range(min(count, len(chunks) + 1)):
            start, _ = chunks.get(f"ImageDataSeq|{index}!".encode(), (end, 0))
            if start + _BEFORE_FRAME_BYTES + (0 if packed else size) > end or start < 0:
                reason = f"frame {index} of {count} is missing; it may have been cut off"
                raise UnreadableFileError(str(self.path), reason)

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, slice by slice."""
        roi.check_within(self.info.shape)
        channel, sample = divmod(self.choice.channel or 0, self._samples)
        place = {"T": self.choice.time or 0, "P": self._position}
        whole = (-1, *self.info.shape[1:], self._samples)
        block = np.empty(roi.shape, self.info.dtype)
        for index in range(roi.depth):
            place["Z"] = roi.z + index
            frame = 0
            for axis, size in self._loops.items():
                frame = frame * size + place[axis]
            with explain_damage(self.path, what=f"slice {place['Z']} is damaged"):
                pixels = self._nd2.read_frame(frame).reshape(whole)[channel, ..., sample]
                block[index] = pixels[roi.slices[1:]]
        return block

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _voxel_size(metadata: Any) -> VoxelSize | None:  # noqa: ANN401 (of the library)
    """Return the voxel size; where there is no calibration, the library says 1 micrometre."""
    if not metadata.channels or not all(metadata.channels[0].volume.axesCalibrated):
        return None
    x, y, z = metadata.channels[0].volume.axesCalibration
    try:
        return VoxelSize(z * _NM_PER_UM, y * _NM_PER_UM, x * _NM_PER_UM)
    except ValueError:
        return None
