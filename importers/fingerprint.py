"""Telling whether two files or folders hold the same volume, without reading all of it."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from biosegment.geometry import Roi

_WHOLE_BYTES = 2**26
_BLOCK_BYTES = 2**16
_BLOCKS = 256
_CHUNKS = 64
_CHUNK_SIDES = (16, 512, 512)


def fingerprint(files: Sequence[Path]) -> str:
    """Return a hash of the files' contents in their order; names and times do not count.

    Up to 64 MiB in all are read whole. Of more, 256 blocks spread evenly are read, among them the
    beginning and end of every file, and all sizes count: a copy has the same fingerprint, another
    recording never does, and only a small edit inside a large file can go unseen.
    """
    digest = hashlib.blake2b(digest_size=20)
    sizes = [file.stat().st_size for file in files]
    blocks = max(2, _BLOCKS // len(files)) if sum(sizes) > _WHOLE_BYTES else None
    for file, size in zip(files, sizes, strict=True):
        digest.update(size.to_bytes(8))
        with file.open("rb") as content:
            for start in _block_starts(size, blocks):
                content.seek(start)
                digest.update(content.read(_BLOCK_BYTES))
    return digest.hexdigest()


def sample_fingerprint(
    facts: Sequence[object],
    shape: Sequence[int],
    chunks: Sequence[int],
    read: Callable[[Roi], npt.NDArray[Any]],
) -> str:
    """Return a hash of voxels and of what else is known, for volumes of very many files.

    At most 64 chunks spread evenly are read; of larger ones, their first 16 x 512 x 512 voxels.

    Parameters
    ----------
    facts
        What has to be the same besides; anything with a stable ``repr``.
    shape
        Extent (z, y, x) of the volume.
    chunks
        Extent (z, y, x) of its chunks.
    read
        Returns the voxels of a region.
    """
    digest = hashlib.blake2b(repr((*facts, tuple(shape))).encode(), digest_size=20)
    for roi in _sampled_chunks(shape, chunks):
        digest.update(read(roi).tobytes())
    return digest.hexdigest()


def _sampled_chunks(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[Roi]:
    counts = [math.ceil(size / chunk) for size, chunk in zip(shape, chunks, strict=True)]
    total = math.prod(counts)
    wanted = min(total, _CHUNKS)
    for number in (total * index // wanted for index in range(wanted)):
        rest, x = divmod(number, counts[2])
        z, y = divmod(rest, counts[1])
        start = [index * chunk for index, chunk in zip((z, y, x), chunks, strict=True)]
        sides = (
            min(chunk, most, size - first)
            for chunk, most, size, first in zip(chunks, _CHUNK_SIDES, shape, start, strict=True)
        )
        yield Roi(*start, *sides)


def _block_starts(size: int, blocks: int | None) -> Iterable[int]:
    """Return where the blocks to be read begin: all of them, or so many."""
    if blocks is None:
        return range(0, size, _BLOCK_BYTES)
    last = max(0, size - _BLOCK_BYTES)
    return (last * index // (blocks - 1) for index in range(blocks))
