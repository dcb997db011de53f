"""MAT files of version 5 (MATLAB's -v6 and -v7, Octave, SciPy).

A variable that is not compressed is read in place; a compressed one is unpacked once into a
temporary file. No library does this safely: up to version 1.17.1 at least, SciPy's ``loadmat`` ends
the process with a segmentation fault if the type of some data is damaged, or cells are nested too
deep, and ``whosmat`` does not see either. It would also hold all of a variable in memory.

References
----------
.. [1] MATLAB, "MAT-File Format",
   https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from importers.attributes import decoded
from importers.gunzip import MOST_DEFLATED, unpacked
from importers.mat_file import LONGEST_TEXT_BYTES, MOST_NUMBERS, MOST_TEXTS, NUMERIC, MatFile
from importers.packing import inflated, part_of

_HEADER_BYTES = 128
_BEGINS = b"MATLAB 5.0 MAT-file"
_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_KINDS = {
    **{1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single"},
    **{8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32"},
    **{14: "int64", 15: "uint64", 16: "function", 17: "object"},
}
_STORED = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"},
    **{12: "i8", 13: "u8"},
}
_UTF_16 = (4, 17)
_IS_COMPLEX = 0x800
_OPAQUE = 17
_MOST_AXES = 32
_LONGEST_NAME_BYTES = 2**10
_MOST_ELEMENTS = 10_000


class _Stream:
    """The bytes of an element, read one after the other."""

    def __init__(self, chunks: Iterator[bytes], order: str) -> None:
        self._chunks = chunks
        self._held = b""
        self.order = order
        """Byte order of the file."""
        self.position = 0
        """How many bytes were read."""

    def read(self, count: int) -> bytes:
        """Return the next bytes.

        Raises
        ------
        EOFError
            If there are fewer.
        """
        if count < 0:
            raise ValueError("a variable ends too late")
        while len(self._held) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise EOFError("a variable ends too early")
            self._held += chunk
        content, self._held = self._held[:count], self._held[count:]
        self.position += count
        return content

    def rest(self) -> Iterator[bytes]:
        """Yield all that was not read."""
        if self._held:
            yield self._held
        yield from self._chunks

    def tag(self) -> tuple[int, int, int]:
        """Return type and extent in bytes of the data that begin here, and of their padding."""
        (code,) = struct.unpack(f"{self.order}I", self.read(4))
        if code >> 16 > 4:
            raise ValueError(f"it says that {code >> 16} bytes stand in 4")
        if code >> 16:
            return code & 0xFFFF, code >> 16, 4 - (code >> 16)
        (count,) = struct.unpack(f"{self.order}I", self.read(4))
        return code, count, -count % 8

    def data(self, most: int) -> tuple[int, bytes]:
        """Return type and content of the data that begin here, no more than `most` bytes."""
        code, count, padding = self.tag()
        if count > most:
            raise ValueError(f"it says that {count} bytes are where at most {most} can be")
        return code, self.read(count + padding)[:count]


@dataclass(frozen=True, slots=True)
class _Matrix:
    """What stands before the data of a variable."""

    name: str
    kind: str
    """Its class."""
    is_complex: bool
    sizes: tuple[int, ...]
    """Its own axes: rows, columns, …"""

    @classmethod
    def of(cls, stream: _Stream) -> "_Matrix":
        """Return what a stream begins with, and leave the stream behind it."""
        flags = struct.unpack(f"{stream.order}I", stream.data(8)[1][:4])[0]
        kind = flags & 0xFF
        # Those that only MATLAB understands have no size.
        sizes = b"" if kind == _OPAQUE else stream.data(4 * _MOST_AXES)[1]
        name = stream.data(_LONGEST_NAME_BYTES)[1].decode("latin-1")
        return cls(
            name,
            _KINDS.get(kind, str(kind)),
            bool(flags & _IS_COMPLEX),
            struct.unpack(f"{stream.order}{len(sizes) // 4}i", sizes),
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a variable lies in the file."""

    start: int
    size: int
    """Extent in bytes."""
    packed: bool


@dataclass(frozen=True, slots=True)
class _MappedArray:
    """An array in a file, of which what is indexed is read."""

    file: IO[bytes]
    stored: np.dtype[Any]
    """Type in the file: MATLAB keeps numbers in as few bytes as it can."""
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """Type that is meant."""

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:  # noqa: ANN401 (as NumPy has it)
        array = np.memmap(self.file, self.stored, mode="r", offset=self.offset, shape=self.shape)
        return np.array(array[index], self.dtype)


class Mat5File(MatFile):
    """A MAT file of version 5."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = ExitStack()
        with path.open("rb") as file:
            self._order = _ORDERS[file.read(_HEADER_BYTES)[124:]]
            self._places = dict(self._find_variables(file))

    @classmethod
    def begins(cls, path: Path) -> bool:
        """Tell whether a file is of this version, by its first bytes."""
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        return header.startswith(_BEGINS) and header[124:] in _ORDERS

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def array(self, name: str) -> _MappedArray:
        """Return a variable with its axes reversed."""
        place = self._places[name]
        with self.path.open("rb") as file:
            stream = self._stream(file, place)
            matrix = _Matrix.of(stream)
            if matrix.kind not in NUMERIC or matrix.is_complex:
                raise self.refused(name, "complex" if matrix.is_complex else matrix.kind)
            code, count, _ = stream.tag()
            stored = np.dtype(self._order + _STORED[code])
            if min(matrix.sizes) < 1 or math.prod(matrix.sizes) * stored.itemsize != count:
                reason = f"its variable {name} is of size {matrix.sizes} and has {count} bytes"
                raise UnreadableFileError(str(self.path), reason)
            offset = 0 if place.packed else place.start + stream.position
            if place.packed:
                data = unpacked(self.path, stream.rest(), count, MOST_DEFLATED * place.size)
            elif offset + count > file.seek(0, 2):
                reason = f"it is cut off: its variable {name} should reach to {offset + count}"
                raise UnreadableFileError(str(self.path), reason)
            else:
                data = self.path.open("rb")
        self._opened.callback(data.close)
        return _MappedArray(data, stored, offset, matrix.sizes[::-1], np.dtype(matrix.kind))

    def texts(self, name: str) -> list[str]:
        """Return a text, or the texts in a cell array; empty ones for whatever is none."""
        if name not in self._places:
            return []
        with self.path.open("rb") as file:
            stream = self._stream(file, self._places[name])
            matrix = _Matrix.of(stream)
            if matrix.kind != "cell":
                return [_text(stream, matrix)]
            if math.prod(matrix.sizes) > MOST_TEXTS:
                raise ValueError(f"{name} holds {math.prod(matrix.sizes)} texts")
            return [_cell(stream) for _ in range(math.prod(matrix.sizes))]

    def numbers(self, name: str) -> list[float]:
        """Return the numbers of a small array; none if there is no such array."""
        if name not in self._places:
            return []
        with self.path.open("rb") as file:
            stream = self._stream(file, self._places[name])
            if _Matrix.of(stream).kind not in NUMERIC:
                return []
            code, content = stream.data(8 * MOST_NUMBERS)
            values = np.frombuffer(content, np.dtype(self._order + _STORED[code]))
            return [float(value) for value in values]

    def close(self) -> None:
        """Close the file; what was unpacked is gone with it."""
        self._opened.close()

    def _find_variables(self, file: IO[bytes]) -> Iterator[tuple[str, _Place]]:
        """Yield names and places of all variables."""
        end, position = file.seek(0, 2), _HEADER_BYTES
        for _ in range(_MOST_ELEMENTS):
            if position + 8 > end:
                return
            file.seek(position)
            code, size = struct.unpack(f"{self._order}II", file.read(8))
            if code in (_MATRIX, _COMPRESSED):
                place = _Place(position + 8, min(size, end - position - 8), code == _COMPRESSED)
                yield _Matrix.of(self._stream(file, place)).name, place
            position += 8 + size
        raise ValueError("it holds too many variables")

    def _stream(self, file: IO[bytes], place: _Place) -> _Stream:
        """Return the content of a variable."""
        file.seek(place.start)
        chunks = part_of(file, place.size)
        if not place.packed:
            return _Stream(chunks, self._order)
        stream = _Stream(inflated(chunks), self._order)
        if stream.tag()[0] != _MATRIX:
            raise ValueError("what it has compressed is no variable")
        return stream


def _text(stream: _Stream, matrix: _Matrix) -> str:
    """Return a line of text, nothing for whatever else follows."""
    if matrix.kind != "char" or math.prod(matrix.sizes) != max(matrix.sizes, default=0):
        return ""
    code, content = stream.data(LONGEST_TEXT_BYTES)
    if code in _UTF_16:
        return content.decode("utf-16-le" if stream.order == "<" else "utf-16-be", "replace")
    return decoded(content)


def _cell(stream: _Stream) -> str:
    """Return the text that a cell holds, and leave the stream behind the cell."""
    code, size, _ = stream.tag()
    if code != _MATRIX or size > 2 * LONGEST_TEXT_BYTES:
        raise ValueError("a cell holds no text")
    if size == 0:
        return ""
    end = stream.position + size
    text = _text(stream, _Matrix.of(stream))
    stream.read(end - stream.position)
    return text
