"""The directory of a CZI file: which images it holds and where, checked before Zeiss's library.

That library trusts the numbers in a file, and a damaged one can end the whole process.

References
----------
.. [1] ZEISS, ZISRAW (CZI) File Format, the segments ZISRAWFILE, ZISRAWDIRECTORY, ZISRAWSUBBLOCK.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO

from biosegment.errors import UnreadableFileError

_SEGMENT = struct.Struct("<16sqq")
_FILE = struct.Struct("<16x16x16x4xqqiq")
_DIRECTORY = struct.Struct("<i124x")
_ENTRY = struct.Struct("<2siqii6xi")
_DIMENSION = struct.Struct("<4siifi")
_BLOCK = struct.Struct("<iiq")
_MOST_DIMENSIONS = 40


@dataclass(frozen=True, slots=True)
class CziBlock:
    """An image, or a tile of one, in a CZI file."""

    place: dict[str, int]
    """Its index along each axis: S, Z, C, T, …; its first pixel along X and Y."""
    full_size: bool
    """Whether it is stored as large as it is shown, not as a part of a pyramid."""
    position: int
    """Where in the file it stands, in bytes."""


def czi_blocks(path: Path) -> Iterator[CziBlock]:
    """Yield what the directory of the CZI file at `path` lists.

    Raises
    ------
    UnreadableFileError
        If the directory is damaged, or lies beyond the end of the file.
    """
    with path.open("rb") as file:
        _segment(path, file, 0, b"ZISRAWFILE")
        position, _, _, _ = _FILE.unpack(file.read(_FILE.size))
        _segment(path, file, position, b"ZISRAWDIRECTORY")
        (count,) = _DIRECTORY.unpack(file.read(_DIRECTORY.size))
        for _ in range(count):
            yield _entry(path, file)


def check_czi_block(path: Path, file: BinaryIO, block: CziBlock) -> None:
    """Raise UnreadableFileError unless an open CZI file holds the whole of a block."""
    _segment(path, file, block.position, b"ZISRAWSUBBLOCK")
    sizes = _BLOCK.unpack(file.read(_BLOCK.size))
    start = file.tell()
    own = _entry(path, file)
    if min(sizes) < 0 or start + sum(sizes) > file.seek(0, 2) or own.place != block.place:
        reason = f"its image at byte {block.position} is damaged or cut off"
        raise UnreadableFileError(str(path), reason)


def _segment(path: Path, file: BufferedIOBase | BinaryIO, position: int, kind: bytes) -> None:
    """Go behind the head of a segment."""
    if position < 0 or file.seek(position) != position:
        raise UnreadableFileError(str(path), f"it names byte {position} as one of its own")
    name, _, _ = _SEGMENT.unpack(file.read(_SEGMENT.size))
    if name.strip(b"\0") != kind:
        reason = f"at byte {position} it holds no {kind.decode()}; it may have been cut off"
        raise UnreadableFileError(str(path), reason)


def _entry(path: Path, file: BufferedIOBase | BinaryIO) -> CziBlock:
    schema, _, position, part, _, count = _ENTRY.unpack(file.read(_ENTRY.size))
    if schema != b"DV" or not 0 < count <= _MOST_DIMENSIONS or part:
        raise UnreadableFileError(str(path), "its directory is damaged, or names other files")
    place, full_size = {}, True
    for _ in range(count):
        axis, start, size, _, stored = _DIMENSION.unpack(file.read(_DIMENSION.size))
        place[axis.strip(b"\0").decode("latin-1")] = start
        full_size &= stored in (0, size)
    return CziBlock(place, full_size, position)
