"""Carl Zeiss CZI files, mosaics included.

Read with Zeiss's own library (LGPL, the extra ``czi``). All compressions and mosaics of tiles are
read; gaps of a mosaic are 0. Of several scenes one has to be chosen by its number. Colour samples
are channels.

Cannot be read: phases, rotations, illuminations, blocks or views (the axes R, I, H, V, B) if there
is more than one; a scene in which a slice has no image at all.

References
----------
.. [1] https://github.com/ZEISS/pylibczirw
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt
from defusedxml.ElementTree import fromstring

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape
from importers.czi_directory import CziBlock, check_czi_block, czi_blocks
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.optional import optional_module

_MAGIC = b"ZISRAWFILE"
_NM_PER_METRE = 1e9
_COLOURS = ("blue", "green", "red")
# Type and number of colour samples of a pixel.
_PIXELS = {
    **{"Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1)},
    **{"Bgr24": ("u1", 3), "Bgr48": ("u2", 3), "Bgr96Float": ("f4", 3)},
}
# A slice of more than this, in a file of less than a part of it, is a damaged header.
_LARGE_SLICE_BYTES = 2**30
_MOST_COMPRESSED = 1100
_TEXTS = {
    "acquired": ".//Image/AcquisitionDateAndTime",
    "microscope": ".//Microscopes/Microscope/System",
    "software": ".//Application/Name",
    "comment": ".//Document/Comment",
}


class CziReader(VolumeReader):
    """A scene of a CZI file as a volume."""

    path: Path
    SUFFIXES = (".czi",)
    EXTRA = "czi"

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        library = optional_module("pylibCZIrw.czi", path.name, "czi")
        with explain_damage(path), ExitStack() as opened:
            directory = list(czi_blocks(path))
            self._file = opened.enter_context(path.open("rb"))
            self._czi = opened.enter_context(library.open_czi(str(path)))
            self._scene, self._frame = _scene(path, self._czi, choice.dataset)
            self._info = self._checked_info(directory)
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a CZI file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC)) == _MAGIC
        return None if begins else "it does not begin like a CZI file"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def _checked_info(self, directory: Iterable[CziBlock]) -> VolumeInfo:
        counts = {axis: end - start for axis, (start, end) in self._czi.total_bounding_box.items()}
        others = [axis for axis in counts if axis not in "XYZCT" and counts[axis] > 1]
        if others:
            reason = f"it has {counts[others[0]]} images along its axis {others[0]}"
            raise UnreadableFileError(str(self.path), reason)
        self._blocks = self._planes(directory)
        slices = [z for z, _, _ in self._blocks]
        if not slices:
            raise UnreadableFileError(str(self.path), "it holds no image")
        self._first_z, depth = min(slices), max(slices) - min(slices) + 1
        images = depth * counts["C"] * counts["T"]
        if len(self._blocks) < images:
            reason = f"it should hold {images} images and holds {len(self._blocks)}"
            raise UnreadableFileError(str(self.path), reason)
        pixel_types = {self._czi.get_channel_pixel_type(index) for index in range(counts["C"])}
        if len(pixel_types) > 1 or not pixel_types <= set(_PIXELS):
            reason = f"its pixels are of the types {', '.join(sorted(pixel_types))}"
            raise UnreadableFileError(str(self.path), reason)
        code, self._samples = _PIXELS[pixel_types.pop()]
        dtype = np.dtype(code)
        extent = (self._frame.h, self._frame.w)
        most = max(_LARGE_SLICE_BYTES, _MOST_COMPRESSED * self.path.stat().st_size)
        if min(extent) < 1 or math.prod(extent) * self._samples * dtype.itemsize > most:
            reason = f"it says a slice is {describe_shape(extent)} pixels"
            raise UnreadableFileError(str(self.path), reason)
        metadata = fromstring(self._czi.raw_metadata)
        channels = metadata.iterfind(".//Image/Dimensions/Channels/Channel")
        names = _COLOURS if self._samples > 1 else tuple(each.get("Name", "") for each in channels)
        channel_count = counts["C"] * self._samples
        return VolumeInfo(
            shape=(depth, *extent),
            dtype=dtype,
            voxel_size=_voxel_size(metadata),
            files=(self.path,),
            channels=channel_count,
            channel_names=names if len(names) == channel_count else (),
            times=counts["T"],
            dataset=None if self._scene is None else str(self._scene),
            metadata=dict(_texts(metadata)),
        )

    def _planes(self, directory: Iterable[CziBlock]) -> dict[tuple[int, ...], list[CziBlock]]:
        """Return the blocks of the scene by their place along z, channels and time."""
        planes: dict[tuple[int, ...], list[CziBlock]] = {}
        for block in directory:
            if block.full_size and block.place.get("S", self._scene) == self._scene:
                place = tuple(block.place.get(axis, 0) for axis in "ZCT")
                planes.setdefault(place, []).append(block)
        return planes

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, slice by slice."""
        roi.check_within(self.info.shape)
        channel, sample = divmod(self.choice.channel or 0, self._samples)
        place = (self._frame.x + roi.x, self._frame.y + roi.y, roi.width, roi.height)
        block = np.empty(roi.shape, self.info.dtype)
        for index in range(roi.depth):
            plane = (self._first_z + roi.z + index, channel, self.choice.time or 0)
            with explain_damage(self.path, what=f"slice {roi.z + index} is damaged"):
                for stored in self._blocks[plane]:
                    check_czi_block(self.path, self._file, stored)
                where = dict(zip("ZCT", plane, strict=True))
                pixels = self._czi.read(roi=place, plane=where, scene=self._scene)
                block[index] = pixels[..., sample]
        return block

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _scene(path: Path, czi: Any, wanted: str | None) -> tuple[int | None, Any]:  # noqa: ANN401
    """Return the number of the chosen scene, None if there are none, and its rectangle."""
    scenes = czi.scenes_bounding_rectangle_no_pyramid
    if not scenes and wanted is None:
        return None, czi.total_bounding_rectangle_no_pyramid
    scene = int(chosen_dataset(path, map(str, sorted(scenes)), wanted))
    return scene, scenes[scene]


def _voxel_size(metadata: Element) -> VoxelSize | None:
    """Return the voxel size; its edges are stored in metres, whatever unit is shown."""
    texts = [metadata.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value") for axis in "ZYX"]
    try:
        return VoxelSize(*(float(text or "nan") * _NM_PER_METRE for text in texts))
    except ValueError:
        return None


def _texts(metadata: Element) -> Iterator[tuple[str, str]]:
    for name, place in _TEXTS.items():
        text = (metadata.findtext(place) or "").strip()
        if text:
            yield name, text
