"""How formats pack voxels inside a file, undone bit by bit: zlib, Amira's run lengths, text.

Each function takes and yields pieces of bytes, so that :func:`importers.gunzip.unpacked` can write
them to a temporary file.
"""

import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_CHUNK_BYTES = 2**18
_LONGEST_NUMBER_BYTES = 2**20
_BLANKS = bytes.maketrans(b"\t\n\r", b"   ")
_MOST_IN_A_RUN = 127


def part_of(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes of a file, or what there is, a little at a time."""
    while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what a zlib stream holds.

    Raises
    ------
    EOFError
        If it was cut off.
    zlib.error
        If it is damaged.
    """
    stream = zlib.decompressobj()
    for chunk in chunks:
        while chunk and not stream.eof:
            if content := stream.decompress(chunk, _CHUNK_BYTES):
                yield content
            chunk = stream.unconsumed_tail
    if content := stream.flush():
        yield content
    if not stream.eof:
        raise EOFError("its packed data end too early")


def most_in_runs(size: int) -> int:
    """Return how many bytes `size` bytes of run lengths stand for at most."""
    return (size + 1) // 2 * _MOST_IN_A_RUN


def run_lengths(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what Amira's ``HxByteRLE`` stands for.

    A byte below 128 tells how often the next one comes; what any other is above 128 tells how many
    bytes follow as they are.
    """
    rest = b""
    for chunk in chunks:
        block = np.frombuffer(rest + chunk, np.uint8)
        counts = _counts(block)
        if content := np.repeat(block[: len(counts)], counts).tobytes():
            yield content
        rest = block[len(counts) :].tobytes()


def _counts(block: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return how often each byte comes, up to where the last whole run ends."""
    lengths = np.where(block <= _MOST_IN_A_RUN, 2, 1 + (block & _MOST_IN_A_RUN)).tolist()
    places, place = [], 0
    while place < len(lengths) and place + lengths[place] <= len(lengths):
        places.append(place)
        place += lengths[place]
    controls = np.array(places, np.intp)
    codes = block[controls].astype(np.intp)
    repeated = codes <= _MOST_IN_A_RUN
    begins = controls[~repeated] + 1
    edges = np.zeros(place + 1, np.intp)
    edges[begins] += 1
    edges[begins + (codes[~repeated] & _MOST_IN_A_RUN)] -= 1
    counts: npt.NDArray[np.intp] = np.cumsum(edges[:-1])
    counts[controls[repeated] + 1] = codes[repeated]
    return counts


def numbers(chunks: Iterator[bytes], dtype: np.dtype[Any]) -> Iterator[bytes]:
    """Yield the numbers of a text, as stored in memory.

    Raises
    ------
    ValueError
        If it holds anything else.
    """
    rest = b""
    for text in chunks:
        *words, rest = (rest + text).translate(_BLANKS).rsplit(b" ", 1)
        if len(rest) > _LONGEST_NUMBER_BYTES:
            raise ValueError("it is no list of numbers")
        for part in words:
            if content := np.array(part.split()).astype(dtype).tobytes():
                yield content
    yield np.array(rest.split()).astype(dtype).tobytes()
