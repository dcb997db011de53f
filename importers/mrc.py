"""MRC and CCP4 maps, stacks and volumes of volumes, plain or gzipped.

Voxels stay in stored order: columns are x, rows y, sections z, and no rows are turned over. Signed
bytes (mode 0) are what the format demands; IMOD's stamp, or a maximum in the header that no signed
byte reaches, makes them unsigned, as older programs wrote them.

Cannot be read: complex numbers (modes 3 and 4) and bytes of two voxels (mode 101, or IMOD's flag).
What stands in extended headers is not looked at.

References
----------
.. [1] MRC2014: https://www.ccpem.ac.uk/mrc_format/mrc2014.php
.. [2] IMOD's dialect: https://bio3d.colorado.edu/imod/doc/mrc_format.txt

Examples
--------
>>> import mrcfile, numpy as np, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.mrc"
>>> mrcfile.write(path, np.zeros((2, 3, 4), "int16"), voxel_size=80)
>>> with MrcReader(path) as stack:
...     stack.info.shape, stack.info.voxel_size.x
((2, 3, 4), 8.0)
"""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import dtype_from_mode, spacegroup_is_volume_stack

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize
from importers.base import VolumeInfo
from importers.gunzip import first_bytes
from importers.raw_array import RawArray, RawReader

_SUFFIXES = (".mrc", ".mrcs", ".map", ".ccp4", ".rec", ".st", ".ali", ".preali")
_HEADER_BYTES = 1024
_MODES = (0, 1, 2, 3, 4, 6, 12, 16, 101)
_RGB = 16
_IMOD_STAMP = 1146047817
_IMOD_STAMP_AT = 152 - HEADER_DTYPE.fields["extra2"][1]
_IMOD_SIGNED, _IMOD_TWO_IN_A_BYTE = 1, 16
_NM_PER_ANGSTROM = 0.1
_DOUBT = (
    "its voxels are 1 Angstrom on each side, which IMOD also writes where it knows no voxel size; "
    "--voxel-size corrects it"
)


class MrcReader(RawReader):
    """An MRC file as a volume; a stack of volumes as its time points."""

    SUFFIXES = (*_SUFFIXES, *(suffix + ".gz" for suffix in _SUFFIXES))

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not an MRC file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        content = first_bytes(path, _HEADER_BYTES)
        if len(content) == _HEADER_BYTES and content[208:211] == b"MAP":
            return None
        # Programs older than the year 2000 leave the word out.
        if path.name.lower().endswith(cls.SUFFIXES) and _header(content) is not None:
            return None
        return "it does not begin like an MRC file"

    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        header = _header(first_bytes(self.path, _HEADER_BYTES))
        if header is None:
            reason = "its header tells no size above 0 or no type of voxels that is known"
            raise UnreadableFileError(str(self.path), reason)
        axes, sizes = _extent(self.path, header)
        offset = _HEADER_BYTES + int(header["nsymbt"])
        array = RawArray(axes, sizes, _voxel_type(self.path, header), offset)
        size = _voxel_size(header)
        notices = (_DOUBT,) if size is not None and np.allclose(size.zyx, _NM_PER_ANGSTROM) else ()
        return array, replace(array.info(self.path, size, _labels(header)), notices=notices)


def _header(content: bytes) -> np.void | None:
    """Return the header in the byte order that makes sense; the stamp for it is often wrong."""
    if len(content) < _HEADER_BYTES:
        return None
    for order in "<>":
        header: np.void = np.frombuffer(content, HEADER_DTYPE.newbyteorder(order), 1)[0]
        axes = [abs(int(header[name])) for name in ("mapc", "mapr", "maps")]
        sizes = [int(header[name]) for name in ("nx", "ny", "nz")]
        if header["mode"] in _MODES and max(axes) <= 3 and min(sizes) > 0:
            return header
    return None


def _extent(path: Path, header: np.void) -> tuple[str, tuple[int, ...]]:
    x, y, z, sections = (int(header[name]) for name in ("nx", "ny", "nz", "mz"))
    if header["mode"] == _RGB:
        return "zyxc", (z, y, x, 3)
    if not spacegroup_is_volume_stack(header["ispg"]):
        return "zyx", (z, y, x)
    if sections < 1 or z % sections:
        reason = f"it says it is a stack of volumes of {sections} sections, and holds {z}"
        raise UnreadableFileError(str(path), reason)
    return "tzyx", (z // sections, sections, y, x)


def _voxel_type(path: Path, header: np.void) -> np.dtype[Any]:
    mode = int(header["mode"])
    order = header.dtype["mode"].byteorder
    stamp, flags = struct.unpack_from(f"{order}iI", header["extra2"], _IMOD_STAMP_AT)
    by_imod = stamp == _IMOD_STAMP
    if mode == 101 or (mode == 0 and by_imod and flags & _IMOD_TWO_IN_A_BYTE):
        reason = "each of its bytes holds two voxels; convert it to whole bytes"
        raise UnreadableFileError(str(path), reason)
    if mode in (3, 4):
        raise UnreadableFileError(str(path), "its values are complex, not real numbers")
    beyond_signed = header["dmin"] >= 0 and 127 < header["dmax"] <= 255
    unsigned = not flags & _IMOD_SIGNED if by_imod else beyond_signed
    if mode == _RGB or (mode == 0 and unsigned):
        return np.dtype(np.uint8)
    voxel_type: np.dtype[Any] = dtype_from_mode(mode).newbyteorder(order)
    return voxel_type


def _voxel_size(header: np.void) -> VoxelSize | None:
    """Return the size of a voxel; columns, rows and sections may lie along any axis of the cell."""
    edges = []
    for name, usual in (("maps", 3), ("mapr", 2), ("mapc", 1)):
        axis = "xyz"[(abs(int(header[name])) or usual) - 1]
        steps = int(header[f"m{axis}"])
        edges.append(float(header["cella"][axis]) / steps * _NM_PER_ANGSTROM if steps > 0 else 0.0)
    try:
        return VoxelSize(*edges)
    except ValueError:
        return None


def _labels(header: np.void) -> dict[str, str]:
    """Return the lines of text in which programs say what they did."""
    count = min(max(int(header["nlabl"]), 0), 10)
    texts = (line.decode("latin-1").strip("\0 ") for line in header["label"][:count])
    return {f"label {index}": text for index, text in enumerate(texts, 1) if text}
