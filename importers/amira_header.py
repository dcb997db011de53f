"""The header of AmiraMesh files: parameters in nested blocks, and the arrays behind them.

References
----------
.. [1] Amira's User's Guide, "AmiraMesh Format".
"""

import math
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from biosegment.errors import UnreadableFileError
from importers.attributes import decoded

FIRST_LINE = re.compile(
    rb"#\s*(?:AmiraMesh|Avizo)\s+(?:3D\s+)?(BINARY-LITTLE-ENDIAN|BINARY|ASCII)\b"
)
_LONGEST_HEADER_BYTES = 2**22
_DEEPEST = 50
_TOKEN = re.compile(
    r'"(?P<text>[^"\\]*+(?:\\.[^"\\]*+)*+)"?'
    r"|\#[^\n]*"
    r"|(?P<mark>[{}\n,])"
    r'|(?P<word>@\d+(?:\([^)\n]*\))?|[^\s{}",#=]+)',
    re.DOTALL,
)
_VALUES = re.compile(r"(\w+)(?:\[(\d+)\])?")
_PLACE = re.compile(r"@(\d+)(?:\(\s*(\w+)\s*(?:,\s*(\d+)\s*)?\))?")
_ORDERS = {b"BINARY-LITTLE-ENDIAN": "<", b"BINARY": ">", b"ASCII": ""}
_TYPES = {
    "byte": "u1",
    "sbyte": "i1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "float": "f4",
    "double": "f8",
}
_MARK = re.compile(rb"@(\d+)\s*(?:#.*)?$")
_LONGEST_MARK_BYTES = 2**10
_MOST_EMPTY_LINES = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a header: a name, and values or a block of further lines."""

    name: str
    """Empty for a block that has none."""
    values: list[str] = field(default_factory=list)
    """Words, numbers and texts, the latter without their quotes."""
    block: list["Entry"] = field(default_factory=list)
    """What stands between its braces."""


@dataclass(frozen=True, slots=True)
class Field:
    """An array of the file."""

    name: str
    """Such as Labels or Data."""
    sizes: tuple[int, ...]
    """Extent along x, y, z, or fewer axes."""
    kind: str
    """Type of its values: byte, ushort, …"""
    components: int
    """How many numbers a value is made of."""
    section: int
    """Number of the section that holds its data."""
    packing: str
    """HxByteRLE, HxZip, or nothing."""
    packed_bytes: int
    """Extent of the section, if it is packed."""

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.sizes) * self.components


@dataclass(frozen=True, slots=True)
class AmiraHeader:
    """What stands before the data."""

    order: str
    """Byte order of numbers, < or >; empty if they are text."""
    entries: list[Entry]
    """All of it."""
    fields: tuple[Field, ...]
    """The arrays of the file."""

    @classmethod
    def read(cls, path: Path, file: IO[bytes]) -> Self:
        """Return the header of an open file, and leave the file where its data begin.

        Raises
        ------
        UnreadableFileError
            If it does not end.
        ValueError
            If it makes no sense.
        """
        kind = FIRST_LINE.match(file.readline(_LONGEST_HEADER_BYTES))
        if kind is None:
            raise ValueError("it does not begin like an AmiraMesh file")
        entries = _entries(_text(path, file))
        sizes = {
            entry.values[0]: tuple(int(size) for size in entry.values[1:])
            for entry in entries
            if entry.name == "define" and entry.values
        }
        return cls(_ORDERS[kind[1]], entries, tuple(_fields(entries, sizes)))

    def find(self, *names: str) -> Entry | None:
        """Return the entry in blocks within blocks, None if it is not there."""
        entries: Sequence[Entry] = self.entries
        found = None
        for name in names:
            found = next((entry for entry in entries if entry.name == name), None)
            if found is None:
                return None
            entries = found.block
        return found

    def voxel_type(self, path: Path, array: Field) -> np.dtype[Any]:
        """Return type and byte order of the numbers of an array.

        Raises
        ------
        UnreadableFileError
            If they are of no known type.
        """
        if array.kind not in _TYPES:
            reason = f"its values are of type {array.kind}; {', '.join(_TYPES)} can be read"
            raise UnreadableFileError(str(path), reason)
        return np.dtype((self.order or "=") + _TYPES[array.kind])

    def find_data(self, path: Path, file: IO[bytes], wanted: Field) -> tuple[int, int]:
        """Return where the data of an array begin and end, in bytes.

        Parameters
        ----------
        path
            The file, for errors.
        file
            The file, where its data begin.
        wanted
            An array of it.

        Raises
        ------
        UnreadableFileError
            If they are not there.
        """
        arrays = {array.section: array for array in self.fields}
        while mark := _MARK.match(_next_line(file)):
            array, start = arrays.pop(int(mark[1]), None), file.tell()
            if array is None:
                break
            if not self.order:
                end = _end_of_text(file, start)
            elif array.packing:
                end = start + array.packed_bytes
            else:
                end = start + array.count * self.voxel_type(path, array).itemsize
            if array.section == wanted.section:
                return start, end
            file.seek(end)
        reason = f"it is cut off or damaged: its section @{wanted.section} is missing"
        raise UnreadableFileError(str(path), reason)


def _next_line(file: IO[bytes]) -> bytes:
    """Return the next line that is not empty."""
    lines = islice(iter(lambda: file.readline(_LONGEST_MARK_BYTES), b""), _MOST_EMPTY_LINES)
    return next((line for line in lines if line.strip()), b"")


def _end_of_text(file: IO[bytes], start: int) -> int:
    """Return where the next section begins, else where the file ends."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"\n@", start - 1)
        return len(content) if end < 0 else end + 1


def _text(path: Path, file: IO[bytes]) -> str:
    """Return the lines up to the first section of data, and leave the file there."""
    lines: list[bytes] = []
    while line := file.readline(_LONGEST_HEADER_BYTES):
        if re.match(rb"@\d", line):
            file.seek(-len(line), 1)
            return decoded(b"".join(lines))
        lines.append(line)
        if file.tell() > _LONGEST_HEADER_BYTES:
            raise UnreadableFileError(str(path), "its header does not end")
    raise UnreadableFileError(str(path), "it is cut off: no data follow its header")


def _entries(text: str) -> list[Entry]:
    """Return the lines of a header as a tree."""
    top: list[Entry] = []
    blocks, open_entry = [top], False
    for token in _TOKEN.finditer(text):
        word = token["text"] if token["text"] is not None else token["word"]
        entries = blocks[-1]
        if word is not None:
            if open_entry:
                entries[-1].values.append(word)
            else:
                entries.append(Entry(word))
            open_entry = True
        elif token["mark"] == "{":
            # The name may stand on the line before; a block behind a block has none.
            if not entries or entries[-1].block:
                entries.append(Entry(""))
            blocks.append(entries[-1].block)
            open_entry = False
        elif token["mark"] == "}":
            blocks.pop()
            open_entry = False
        elif token["mark"]:
            open_entry = False
        if not 0 < len(blocks) <= _DEEPEST:
            raise ValueError("the braces of its header do not match")
    return top


def _fields(entries: Sequence[Entry], sizes: dict[str, tuple[int, ...]]) -> Iterator[Field]:
    """Yield the arrays: a block of type and name, then where the data stand."""
    for array, place in pairwise(entries):
        where = _PLACE.fullmatch(place.name)
        if where and array.name in sizes and array.block and array.block[0].values:
            values = _VALUES.fullmatch(array.block[0].name)
            if values is None:
                raise ValueError(f"it has no values of type {array.block[0].name}")
            yield Field(
                name=array.block[0].values[0],
                sizes=sizes[array.name],
                kind=values[1],
                components=int(values[2] or 1),
                section=int(where[1]),
                packing=where[2] or "",
                packed_bytes=int(where[3] or 0),
            )
