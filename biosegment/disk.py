"""Writing to a disk that may be full, and files that are whole or not there at all."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biosegment.errors import DiskFullError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn the system's errors for a full disk, a quota or a size limit into DiskFullError."""
    try:
        yield
    except (OSError, RuntimeError) as exc:
        number = exc.errno if isinstance(exc, OSError) else _number_in(str(exc))
        if number in _NO_ROOM:
            raise DiskFullError(str(folder), os.strerror(number)) from exc
        raise


def _number_in(message: str) -> int | None:
    """Return the system's error number in a message of zarrs, which has no other place for it."""
    found = re.search(r"\(os error (\d+)\)", message)
    return int(found[1]) if found else None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader and no crash ever meets a part of it.

    The folder must exist. What was there before is replaced.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
