"""TIFF stacks: multi-page, BigTIFF, OME-TIFF and ImageJ, of any usual compression and layout.

Read with tifffile (https://github.com/cgohlke/tifffile), checked by :mod:`importers.tiff_checks`.
Colour samples count as channels. Where white is stored as 0, intensities are inverted so that dark
stays dark; label values are not. Palette images give their indices, which is what labels mean.

Cannot be read: pages that hold several slices (SGI's volumetric TIFF), complex numbers, values
that have to be converted to intensities (Molecular Dynamics GEL), and axes besides channel, time,
z, y, x. Plain TIFF knows no slice distance.

Examples
--------
>>> import numpy as np, tifffile, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.tif"
>>> tifffile.imwrite(path, np.zeros((2, 3, 4), "uint8"), photometric="minisblack")
>>> with TiffReader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tifffile import PHOTOMETRIC, TiffFile

from biosegment.errors import LinkError
from biosegment.geometry import Roi
from biosegment.linked import Link
from importers.base import Choice, VolumeInfo, VolumeReader, storable_dtype
from importers.damage import explain_damage
from importers.tiff_metadata import channel_names, data_bar_notices, tiff_metadata
from importers.tiff_scale import TiffScale, tiff_scale
from importers.tiff_segments import read_rectangle, read_rows, segment_shape
from importers.tiff_stack import find_stack

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffReader(VolumeReader):
    """A TIFF file as a volume, its pages being the slices."""

    path: Path
    SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".tf8", ".btf")

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with explain_damage(path):
            self._tiff = TiffFile(path)
        try:
            with explain_damage(path):
                self._stack = find_stack(path, self._tiff, choice.dataset)
                self._info = self._describe()
                self.check_choice()
        except BaseException:
            self.close()
            raise

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a TIFF file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            return None if file.read(4) in _MAGIC else "it does not begin like a TIFF file"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    @property
    def scale(self) -> TiffScale | None:
        """What the file tells of its voxels' size, also if only in part."""
        return self._scale

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, decoding no more tiles or strips than it touches."""
        block = self.read_labels(roi)
        return _inverted(block, self._stack.first.bitspersample) if self._inverts else block

    def read_labels(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the values of a region as they are stored, nothing being inverted."""
        roi.check_within(self.info.shape)
        block = np.empty(roi.shape, self.info.dtype)
        for index, z in enumerate(range(roi.z, roi.z + roi.depth)):
            with explain_damage(self.path, what=f"slice {z} is damaged"):
                block[index] = self._read_slice(z, *roi.slices[1:])
        return block

    def _read_slice(self, z: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        stack = self._stack
        image, sample = stack.image(z, self.choice.channel or 0, self.choice.time or 0)
        if not stack.pages:
            start = stack.first.dataoffsets[0] + image * stack.first.nbytes
            return read_rows(stack.first, start, sample, rows, columns)
        with stack.page(image) as page:
            return read_rectangle(page, sample, rows, columns)

    def link(self) -> Link:
        """Return where the volume can be read in place: one grey stack of tiled pages."""
        tiff, info = self._tiff, self.info
        axes = tiff.series[0].axes
        if not self._stack.first.is_tiled:
            reason = "its slices are not cut into tiles"
        elif self._inverts:
            reason = "its intensities are stored inverted"
        elif len(tiff.series) > 1 or info.channels > 1 or info.times > 1 or len(info.files) > 1:
            reason = "it holds more than one stack"
        elif len(axes) != 3 or axes[1:] != "YX":
            reason = f"its axes are {axes}"
        else:
            return Link("tiff", str(self.path.resolve()))
        raise LinkError(str(self.path), reason)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _describe(self) -> VolumeInfo:
        stack, first = self._stack, self._stack.first
        dtype = storable_dtype(self.path, "V" if first.dtype is None else first.dtype)
        self._inverts = first.photometric == PHOTOMETRIC.MINISWHITE
        self._scale = tiff_scale(self._tiff)
        channels = stack.size("C") * first.samplesperpixel
        segments = segment_shape(first)
        return VolumeInfo(
            shape=stack.shape,
            dtype=dtype,
            voxel_size=self._scale.voxel_size if self._scale else None,
            files=stack.files,
            channels=channels,
            channel_names=channel_names(self._tiff, channels),
            times=stack.size("T"),
            dataset=stack.dataset,
            chunks=(1, *segments) if segments else None,
            metadata=self._metadata(),
            notices=(
                *(self._scale.notices if self._scale else ()),
                *data_bar_notices(self._tiff),
            ),
        )

    def _metadata(self) -> Mapping[str, str]:
        metadata = {}
        if self._scale:
            metadata["pixel size"] = f"{self._scale.y:g} x {self._scale.x:g} nm (y, x)"
        if self._inverts:
            metadata["photometric"] = "white was stored as 0: intensities are inverted"
        return metadata | tiff_metadata(self._tiff)


def _inverted(block: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return intensities with dark and bright exchanged within their range."""
    if block.dtype.kind == "u":
        inverted: npt.NDArray[Any] = block.dtype.type(2**bits - 1) - block
        return inverted
    return ~block if block.dtype.kind == "i" else -block
