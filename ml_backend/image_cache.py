"""Images that Label Studio served, kept on this disk as long as they are the same there."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from biosegment.disk import write_atomically
from biosegment.labelstudio.client import LabelStudioClient

MAX_BYTES: Final = 2**31
"""Of all images together; those that were not used for longest go first."""
KEPT: Final = 0.9
"""Share of it that is left then."""


class ImageCache:
    """Reads images through Label Studio, which is asked each time whether its own has changed.

    So whoever may not see an image any more does not get it, and a changed one is never stale.
    Images that come without an ETag are not kept. Several processes may share a folder.

    Parameters
    ----------
    folder
        Made when first needed.
    client
        Asked for images.
    limit
        Bytes that are kept, about.
    """

    def __init__(self, folder: Path, client: LabelStudioClient, limit: int = MAX_BYTES) -> None:
        self._folder = folder
        self._client = client
        self._limit = limit
        self._size: int | None = None

    def read(self, address: str) -> bytes:
        """Return the image behind an address of a task; raises as `Connection.download` does."""
        name = hashlib.sha256(f"{self._client.url} {address}".encode()).hexdigest()
        path = self._folder / name
        etag, known = _kept(path)
        content, fresh = self._client.download_unless(address, etag)
        # Without room, or on a disk that cannot be written to, images are fetched each time.
        with suppress(OSError):
            if content is None:
                os.utime(path)
            elif fresh:
                self._keep(path, f"{fresh}\n".encode() + content)
        return known if content is None else content

    def _keep(self, path: Path, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        if self._size is None:
            self._size = sum(size for _, size, _ in self._files())
        else:
            self._size += len(content)
        if self._size > self._limit:
            self._make_room()

    def _make_room(self) -> None:
        """Delete what was not used for longest."""
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._size <= KEPT * self._limit:
                return
            path.unlink(missing_ok=True)
            self._size -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return when each file was used last, its size, and where it is."""
        found = []
        for path in self._folder.iterdir():
            # Another process may have deleted it.
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


def _kept(path: Path) -> tuple[str, bytes]:
    """Return the ETag and the content of an image; nothing where it is not kept."""
    try:
        etag, _, content = path.read_bytes().partition(b"\n")
        return (etag.decode("ascii"), content) if content else ("", b"")
    except (OSError, UnicodeError):
        return "", b""
