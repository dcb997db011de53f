"""NRRD volumes, with their data in the same file (.nrrd, .seg.nrrd) or beside it (.nhdr).

Header fields are parsed by pynrrd. Voxels stay in stored order: the fastest axis of space is x,
the slowest z. Axes that are not of space (lists, vectors, colours) are channels, `time` is time.
Where the unit of lengths is not told, it is millimetres if the file names an anatomical space (the
convention of 3D Slicer and ITK), else the voxel size is unknown; so it is if axes are skewed.

Cannot be read: hexadecimal encoding, data spread over several files, blocks of bytes.

References
----------
.. [1] https://teem.sourceforge.net/nrrd/format.html

Examples
--------
>>> import nrrd, numpy as np, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.nrrd"
>>> header = {"spacings": [5, 5, 40], "units": ["nm", "nm", "nm"]}
>>> nrrd.write(str(path), np.zeros((2, 3, 4), "uint8"), header, index_order="C")
>>> with NrrdReader(path) as stack:
...     stack.info.shape, stack.info.voxel_size.z
((2, 3, 4), 40.0)
"""

import bz2
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np

from biosegment.errors import UnreadableFileError
from importers.base import VolumeInfo
from importers.gunzip import chunks_of, gunzipped, unpacked
from importers.nrrd_axes import nrrd_axes, nrrd_voxel_size
from importers.packing import numbers
from importers.raw_array import RawArray, RawReader

_MAGIC = b"NRRD000"
_LONGEST_HEADER_BYTES = 2**26
_LONGEST_LINE_BYTES = 2**20
_ENCODINGS = {"gz": "gzip", "bz2": "bzip2", "ascii": "text", "txt": "text"}
# Fields of the format itself, which say nothing of the image.
_TECHNICAL = ("type", "encoding", "endian", "space", "data file", "datafile")


class NrrdReader(RawReader):
    """A NRRD file as a volume."""

    SUFFIXES = (".nrrd", ".seg.nrrd", ".nhdr")
    NONSENSE = (nrrd.NRRDError,)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a NRRD file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            begins = file.read(len(_MAGIC)) == _MAGIC
        return None if begins else "it does not begin like a NRRD file"

    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        with self.path.open("rb") as file:
            # Sizes that are no numbers at all become some number, which is refused later.
            with np.errstate(invalid="ignore"):
                header = nrrd.read_header(_header_lines(self.path, file))
            self._start = file.tell()
        encoding = header["encoding"].lower()
        self._encoding = _ENCODINGS.get(encoding, encoding)
        axes, sizes = nrrd_axes(self.path, header)
        array = RawArray(axes, sizes, _voxel_type(header, self._encoding), 0)
        array = replace(array, offset=self._find_data(header, array.end))
        metadata = {
            name: text
            for name, text in header.items()
            if isinstance(text, str) and name not in _TECHNICAL
        }
        info = array.info(self.path, nrrd_voxel_size(header, axes), metadata)
        files = tuple(dict.fromkeys((self.path, self._data)))
        names = _segment_names(header, self.choice.channel or 0)
        return array, replace(info, files=files, label_names=names)

    def _find_data(self, header: dict[str, Any], size: int) -> int:
        """Find where the data, or what is to be unpacked, begin; return what to skip then."""
        name = header.get("data file", header.get("datafile"))
        if name is not None:
            if name.startswith("LIST") or "%" in name:
                reason = "its data are spread over several files; join them first"
                raise UnreadableFileError(str(self.path), reason)
            self._start = 0
        self._data = self.path if name is None else self.path.parent / name
        with self._data.open("rb") as file:
            file.seek(self._start)
            _skip_lines(self.path, file, header.get("line skip", header.get("lineskip", 0)))
            self._start = file.tell()
            end = file.seek(0, 2)
        skip = int(header.get("byte skip", header.get("byteskip", 0)))
        if skip < 0 and (skip, self._encoding) != (-1, "raw"):
            reason = f"it says that {skip} bytes are to be skipped before its {self._encoding} data"
            raise UnreadableFileError(str(self.path), reason)
        if self._encoding in ("gzip", "bzip2"):
            return skip
        self._start = end - size if skip == -1 else self._start + skip
        return self._start if self._encoding == "raw" else 0

    def _open(self) -> IO[bytes]:
        if self._encoding == "raw":
            return self._data.open("rb")
        size = self._array.end
        if self._encoding == "gzip":
            return gunzipped(self._data, size, self._start)
        with self._data.open("rb") as file:
            file.seek(self._start)
            if self._encoding == "bzip2":
                with bz2.BZ2File(file) as stream:
                    return unpacked(self._data, chunks_of(stream), size)
            if self._encoding == "text":
                # Every number takes a digit and a blank.
                most = (self._data.stat().st_size + 1) // 2 * self._array.dtype.itemsize
                return unpacked(self._data, numbers(chunks_of(file), self._array.dtype), size, most)
        reason = f"its encoding is {self._encoding}; raw, gzip, bzip2 and text can be read"
        raise UnreadableFileError(str(self.path), reason)


def _segment_names(header: Mapping[str, Any], layer: int) -> dict[int, str]:
    """Return the names of the segments of 3D Slicer that lie in a layer, by their value."""
    names: dict[int, str] = {}
    for field, name in header.items():
        segment = re.fullmatch(r"(Segment\d+)_Name", field)
        if segment and str(header.get(f"{segment[1]}_Layer", 0)) == str(layer):
            names[int(header.get(f"{segment[1]}_LabelValue", 1))] = str(name)
    return names


def _header_lines(path: Path, file: IO[bytes]) -> list[str]:
    """Return the lines up to the first empty one, and leave the file behind that."""
    lines = []
    while (line := file.readline(_LONGEST_LINE_BYTES)).strip():
        lines.append(line.decode("utf-8", "replace"))
        if file.tell() > _LONGEST_HEADER_BYTES:
            raise UnreadableFileError(str(path), "its header does not end")
    return lines


def _voxel_type(header: dict[str, Any], encoding: str) -> np.dtype[Any]:
    """Return type and byte order as pynrrd understands them, by letting it read one voxel."""
    order = header.get("endian", "little") if encoding == "text" else header.get("endian")
    one = {"dimension": 1, "sizes": np.ones(1, int), "encoding": "raw"}
    one |= {"type": header["type"].lower()} | ({"endian": order.lower()} if order else {})
    voxel_type: np.dtype[Any] = nrrd.read_data(one, io.BytesIO(bytes(8))).dtype
    return voxel_type


def _skip_lines(path: Path, file: IO[bytes], count: int) -> None:
    while count > 0:
        part = file.readline(_LONGEST_LINE_BYTES)
        if not part:
            raise UnreadableFileError(str(path), "its data are missing; it may have been cut off")
        count -= part.endswith(b"\n")
