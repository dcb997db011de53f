"""Datasets of N5: what ``attributes.json`` says of them, and their blocks.

Reference
---------
https://github.com/saalfeldlab/n5#file-system-specification; Blosc and Zstandard come from
https://github.com/saalfeldlab/n5-blosc and https://github.com/JaneliaSciComp/n5-zstandard. LZ4
is what lz4-java's ``LZ4BlockOutputStream`` writes, blocks with a header each.
"""

import bz2
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import imagecodecs
import numpy as np
import numpy.typing as npt

from biosegment.checked_blosc import check_frame

_INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_TYPES = (*_INTEGERS, "float32", "float64")
_MOST_BLOCK_BYTES = 2**31
_LZ4_MAGIC = b"LZ4Block"
_LZ4_HEADER = struct.Struct("<8sBiiI")
_LZ4_STORED = 0x10


@dataclass(frozen=True, slots=True)
class N5Dataset:
    """An array of N5, its axes in N5's order: the first one varies fastest."""

    shape: tuple[int, ...]
    """Extent along each axis."""
    block: tuple[int, ...]
    """Extent of a block; those at the end may be smaller."""
    dtype: np.dtype[Any]
    """Type as stored, big-endian."""
    decompress: Callable[[bytes, int], bytes]
    """Takes the compressed bytes of a block and how many there should be."""

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Return the dataset that attributes describe, None if they are those of a group.

        Raises
        ------
        ValueError, TypeError
            If they make no sense, or blocks are compressed by an unknown method.
        """
        if "dimensions" not in attributes or "dataType" not in attributes:
            return None
        shape = tuple(int(size) for size in attributes["dimensions"])
        block = tuple(int(size) for size in attributes["blockSize"])
        if len(shape) != len(block) or min(shape, default=0) < 1 or min(block) < 1:
            raise ValueError(f"dimensions {shape} and blocks {block} make no sense")
        if attributes["dataType"] not in _TYPES:
            raise ValueError(f"values of type {attributes['dataType']} are no numbers")
        dtype = np.dtype(attributes["dataType"]).newbyteorder(">")
        block = tuple(min(sizes) for sizes in zip(shape, block, strict=True))
        if math.prod(block) * dtype.itemsize > _MOST_BLOCK_BYTES:
            raise ValueError(f"blocks of {block} are larger than 2 GiB")
        # Version 1 of the format names the compression only.
        described = attributes.get("compression") or {"type": attributes["compressionType"]}
        compression = described["type"]
        if compression not in _DECOMPRESS:
            raise ValueError(f"blocks are compressed by {compression}, which is not known")
        return cls(shape, block, dtype, _DECOMPRESS[compression])

    def zarr_document(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``zarr.json`` of this array, if :meth:`decode` is applied to its blocks."""
        order = list(range(len(self.shape)))[::-1]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.block}},
            "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [
                {"name": "transpose", "configuration": {"order": order}},
                {"name": "bytes", "configuration": {"endian": "big"}},
            ],
            "attributes": dict(attributes),
        }

    def decode(self, content: bytes) -> bytes:
        """Return the values of a block, filled up with 0 to its full size, as they are stored.

        Raises
        ------
        ValueError, or what the decompression raises
            If the block is damaged.
        """
        mode, count = struct.unpack_from(">HH", content)
        if mode != 0 or count != len(self.block):
            raise ValueError(f"a block of mode {mode} with {count} axes")
        sides = struct.unpack_from(f">{count}I", content, 4)
        if not all(0 < side <= most for side, most in zip(sides, self.block, strict=True)):
            raise ValueError(f"a block of {sides} where {self.block} is the most")
        wanted = math.prod(sides) * self.dtype.itemsize
        values = self.decompress(content[4 + 4 * count :], wanted)
        if len(values) != wanted:
            raise ValueError(f"a block of {len(values)} bytes instead of {wanted}")
        return values if sides == self.block else self._filled_up(values, sides)

    def _filled_up(self, values: bytes, sides: tuple[int, ...]) -> bytes:
        full: npt.NDArray[Any] = np.zeros(self.block[::-1], self.dtype)
        part = np.frombuffer(values, self.dtype).reshape(sides[::-1])
        full[tuple(slice(side) for side in reversed(sides))] = part
        return full.tobytes()


def _gzip(content: bytes, size: int) -> bytes:
    # Takes zlib's header as well, which N5 offers as an option of gzip. One byte more than wanted
    # shows that there are too many, without decompressing them all.
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, size + 1)


def _blosc(content: bytes, size: int) -> bytes:
    check_frame(content)
    return bytes(imagecodecs.blosc_decode(content, out=size))


def _lz4(content: bytes, size: int) -> bytes:
    if not content.startswith(_LZ4_MAGIC):
        # z5 writes one bare block.
        return bytes(imagecodecs.lz4_decode(content, out=size))
    blocks, start, left = [], 0, size
    while left > 0:
        magic, token, stored, held, _ = _LZ4_HEADER.unpack_from(content, start)
        start += _LZ4_HEADER.size
        if magic != _LZ4_MAGIC or not 0 < held <= left or not 0 < stored <= len(content) - start:
            raise ValueError("a damaged frame of LZ4")
        block = content[start : start + stored]
        is_stored = token & 0xF0 == _LZ4_STORED
        blocks.append(block if is_stored else imagecodecs.lz4_decode(block, out=held))
        start += stored
        left -= held
    return b"".join(blocks)


_DECOMPRESS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "raw": lambda content, size: content,
    "gzip": _gzip,
    "zlib": _gzip,
    "bzip2": lambda content, size: bz2.BZ2Decompressor().decompress(content, size + 1),
    "xz": lambda content, size: lzma.LZMADecompressor().decompress(content, size + 1),
    "lz4": _lz4,
    "blosc": _blosc,
    "zstd": lambda content, size: bytes(imagecodecs.zstd_decode(content, out=size)),
}
