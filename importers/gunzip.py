"""Voxels that are packed as one stream (gzip, bzip2, text), unpacked once into a temporary file.

Such a stream gives its last slice only after all others, so it cannot be read by region. The
temporary file lies where Python puts them (``TMPDIR``) and is gone with the reader, even if the
program is killed.
"""

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from biosegment.disk import explain_full_disk
from biosegment.errors import DiskFullError, UnreadableFileError

_GZIP_MAGIC = b"\x1f\x8b"
MOST_DEFLATED = 1100
"""How many bytes one of gzip or zlib can stand for: 1032, and room for their headers."""
_CHUNK_BYTES = 2**20


def is_gzipped(path: Path) -> bool:
    """Tell whether a file is a gzip stream, by its first bytes."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def first_bytes(path: Path, count: int) -> bytes:
    """Return how a file begins, unpacked if it is gzipped; fewer bytes if there are no more."""
    if not is_gzipped(path):
        with path.open("rb") as file:
            return file.read(count)
    try:
        with gzip.open(path) as stream:
            return stream.read(count)
    except (EOFError, OSError, zlib.error):
        return b""


def gunzipped(path: Path, size: int, start: int = 0) -> IO[bytes]:
    """Return an open temporary file with the first `size` bytes of a gzip stream.

    Parameters
    ----------
    path
        The file that holds it.
    size
        How many bytes its header promises.
    start
        Where in the file the stream begins.

    Raises
    ------
    DiskFullError
        If they do not fit where temporary files go.
    UnreadableFileError
        If the stream does not hold as many, which is found out before they are written if it
        cannot.
    """
    most = MOST_DEFLATED * (path.stat().st_size - start)
    with path.open("rb") as file:
        file.seek(start)
        with gzip.GzipFile(fileobj=file) as stream:
            return unpacked(path, chunks_of(stream), size, most)


def chunks_of(stream: BufferedIOBase) -> Iterator[bytes]:
    """Yield what is left of a stream, a little at a time."""
    return iter(lambda: stream.read(_CHUNK_BYTES), b"")


def unpacked(path: Path, chunks: Iterator[bytes], size: int, most: int | None = None) -> IO[bytes]:
    """Return an open temporary file with the first `size` bytes of `chunks`.

    Parameters
    ----------
    path
        The file that they come from, for what is said of it.
    chunks
        What it holds, unpacked bit by bit.
    size
        How many bytes its header promises.
    most
        How many bytes it can hold at most, by its own size; None if that cannot be told.

    Raises
    ------
    DiskFullError
        If they do not fit where temporary files go.
    UnreadableFileError
        If there are fewer.
    """
    if most is not None and size > most:
        reason = f"it promises {size} bytes of voxels, more than a file of its size can pack"
        raise UnreadableFileError(str(path), reason)
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if size > free:
        reason = (
            f"unpacking {path.name} takes {size / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "TMPDIR can name another folder"
        )
        raise DiskFullError(str(folder), reason)
    with ExitStack() as opened:
        file: IO[bytes] = opened.enter_context(tempfile.TemporaryFile(dir=folder))
        left = size
        with explain_full_disk(folder):
            while left and (chunk := next(chunks, b"")):
                file.write(chunk[:left])
                left -= min(left, len(chunk))
            file.flush()
        if left:
            reason = f"it is cut off: it holds {size - left} of the {size} bytes it promises"
            raise UnreadableFileError(str(path), reason)
        # A stream's check sum stands behind its last byte.
        next(chunks, b"")
        opened.pop_all()
    return file
