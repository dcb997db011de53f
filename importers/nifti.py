"""NIfTI-1 and NIfTI-2 images in one file, plain or gzipped.

Voxels stay in stored order, the fastest axis being x: an orientation (which way is left) turns
nothing over. Where the header scales the stored numbers, the scaled ones are given. A spatial unit
that is not stated leaves the voxel size unknown.

Cannot be read: header and image in two files (.hdr with .img), complex numbers, axes beyond
the fifth.

References
----------
.. [1] https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h

Examples
--------
>>> import nibabel, numpy as np, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.nii.gz"
>>> image = nibabel.Nifti1Image(np.zeros((4, 3, 2), "uint8"), np.diag([0.005, 0.005, 0.04, 1]))
>>> image.header.set_xyzt_units("mm")
>>> nibabel.save(image, path)
>>> with NiftiReader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.base import VolumeInfo, describe_shape
from importers.gunzip import first_bytes
from importers.raw_array import RawArray, RawReader

# Size of the header, which its first number repeats, and what marks header and image as one file.
_KINDS = ((Nifti1Header, 348, 344, b"n+1\0"), (Nifti2Header, 540, 4, b"n+2\0"))
_NM_PER_UNIT = {1: 1e9, 2: 1e6, 3: 1e3}
_UNITS_OF_SPACE = 0b111


class NiftiReader(RawReader):
    """A NIfTI image as a volume; its fourth axis is time, its fifth, or its colours, channels."""

    SUFFIXES = (".nii", ".nii.gz")
    NONSENSE = (HeaderDataError,)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a NIfTI file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        return None if _header(path) is not None else "it does not begin like a NIfTI file"

    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        header = _header(self.path)
        if header is None:
            raise UnreadableFileError(str(self.path), "it does not begin like a NIfTI file")
        axes, sizes = _extent(self.path, header)
        dtype = header.get_data_dtype()
        if dtype.names:
            axes, sizes, dtype = f"{axes}c", (*sizes, len(dtype.names)), np.dtype(np.uint8)
        if axes.count("c") > 1:
            raise UnreadableFileError(str(self.path), "it holds colours and a fifth axis")
        # Room for four bytes that say whether more header follows.
        offset = int(header["vox_offset"]) or header.sizeof_hdr + 4
        array = RawArray(axes, sizes, dtype, offset)
        info = array.info(self.path, _voxel_size(header), _texts(header))
        slope, intercept = header.get_slope_inter()
        self._scale = None if (slope or 1.0, intercept or 0.0) == (1.0, 0.0) else (slope, intercept)
        if self._scale is not None:
            info = replace(info, dtype=np.result_type(info.dtype, np.float32))
        return array, info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, scaled as the header says."""
        block = super().read(roi)
        if self._scale is None:
            return block
        slope, intercept = self._scale
        scaled: npt.NDArray[Any] = block.astype(self.info.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled *= slope
            scaled += intercept
        return scaled


def _header(path: Path) -> Nifti1Header | None:
    content = first_bytes(path, max(size for _, size, _, _ in _KINDS))
    for kind, size, position, magic in _KINDS:
        if len(content) >= size and content[position:].startswith(magic):
            return kind(content[:size], check=False)
    return None


def _extent(path: Path, header: Nifti1Header) -> tuple[str, tuple[int, ...]]:
    count = int(header["dim"][0])
    sizes = tuple(int(size) for size in header["dim"][1 : count + 1])
    if not 2 <= count <= 7 or max(sizes[5:], default=1) > 1:
        reason = f"it has {count} axes ({describe_shape(sizes)}), not z, y and x"
        raise UnreadableFileError(str(path), reason)
    sizes = sizes[:5]
    return "ctzyx"[-len(sizes) :], sizes[::-1]


def _voxel_size(header: Nifti1Header) -> VoxelSize | None:
    nm = _NM_PER_UNIT.get(int(header["xyzt_units"]) & _UNITS_OF_SPACE)
    if nm is None or header["dim"][0] < 3:
        return None
    x, y, z = (abs(float(edge)) * nm for edge in header["pixdim"][1:4])
    try:
        return VoxelSize(z, y, x)
    except ValueError:
        return None


def _texts(header: Nifti1Header) -> dict[str, str]:
    names = {"description": "descrip", "meaning of the values": "intent_name"}
    texts = {
        name: bytes(header[field].item()).decode("latin-1").strip("\0 ")
        for name, field in names.items()
    }
    return {name: text for name, text in texts.items() if text}
