"""The place behind an address where machines without a shared folder exchange models."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

from biosegment.disk import write_atomically
from biosegment.errors import MissingExtraError, ModelStorageError

_S3: Final = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"total_max_attempts": 2},
    },
}
"""Options of s3fs; credentials and the address of the service are read by it from AWS_*."""


class ModelStorage:
    """Files behind an address; each is there as a whole or not at all.

    Nothing is contacted before the first call. Every method raises `ModelStorageError` when the
    storage cannot be used.

    Parameters
    ----------
    url
        Of a folder that exists (``file:///…``), or of a bucket or a part of one (``s3://…``).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._is_folder = urlsplit(url).scheme == "file"
        self._opened: tuple[int, Any, str] | None = None

    def folders(self) -> list[str]:
        """Return the names of the folders at the top."""
        with self._errors() as (files, root):
            found = files.ls(root, detail=True)
        return [each["name"].rpartition("/")[2] for each in found if each["type"] == "directory"]

    def files(self, folder: str) -> dict[str, str]:
        """Return the files below a folder, and of each what changes when its content does."""
        with self._errors() as (files, root):
            top = f"{root}/{folder}/"
            found = files.find(top, detail=True)
        return {name.removeprefix(top): _fingerprint(info) for name, info in found.items()}

    def read(self, name: str, limit: int) -> bytes:
        """Return what a file holds, which is of no more than `limit` bytes."""
        with self._errors() as (files, root):
            path = f"{root}/{name}"
            size = files.size(path)
            if size > limit:
                raise OSError(f"{name} has {size} bytes, and {limit} are the most there can be")
            content: bytes = files.cat_file(path)
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file, instead of the one that there may be."""
        with self._errors() as (files, root):
            if not self._is_folder:
                files.pipe_file(f"{root}/{name}", content)
                return
            path = Path(root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)

    @contextmanager
    def _errors(self) -> Iterator[tuple[Any, str]]:
        """Give the file system and the path in it; turn what it raises into one sentence."""
        failures: tuple[type[Exception], ...] = (OSError,)
        if not self._is_folder:
            botocore = self._module("botocore.exceptions")
            failures += (botocore.BotoCoreError, botocore.ClientError)
            failures += (self._module("aiohttp").ClientError,)
        try:
            files, root = self._open()
            # Not mounted: writing would fill the folder that it is to be mounted on.
            if self._is_folder and not Path(root).is_dir():
                raise FileNotFoundError("there is no such folder")
            yield files, root
        except ModelStorageError:
            raise
        except failures as exc:
            raise ModelStorageError(self.url, _reason(exc)) from exc

    def _open(self) -> tuple[Any, str]:
        # The connections of a process are no use to its forks, such as a worker's jobs.
        if self._opened is None or self._opened[0] != os.getpid():
            fsspec = self._module("fsspec")
            if not self._is_folder:
                self._module("s3fs")
            options = {} if self._is_folder else _S3
            files, root = fsspec.url_to_fs(self.url, skip_instance_cache=True, **options)
            self._opened = (os.getpid(), files, root)
        return self._opened[1:]

    def _module(self, name: str) -> ModuleType:
        try:
            return import_module(name)
        except ModuleNotFoundError as exc:
            raise MissingExtraError(self.url, "cloud") from exc


def _fingerprint(info: Mapping[str, Any]) -> str:
    return str(info.get("ETag") or (info["size"], info.get("mtime"), info.get("ino")))


def _reason(exc: Exception) -> str:
    if isinstance(exc, PermissionError):
        return "access is denied"
    return " ".join(f"{exc}".split())[:200].rstrip(".") or type(exc).__name__
