"""Where the chunks of a volume lie: a folder, a zip file, or behind an address."""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import BufferPrototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from biosegment.errors import BioSegmentError, SourceUnreachableError
from importers.optional import optional_module

EXTRA: Final = "cloud"
"""The optional extra that brings what is needed to follow addresses."""
_ZIP_MAGIC = b"PK\x03\x04"
_CONNECT_S, _READ_S = 20, 60


def is_address(source: Path | str) -> bool:
    """Return whether a source is an address, such as ``s3://bucket/volume.zarr``, and no path."""
    return isinstance(source, str) and "://" in source


def public_address(address: str) -> str:
    """Return an address without what may be a secret: user and password, query, fragment.

    Examples
    --------
    >>> public_address("https://me:pass@host:8080/a.zarr?signature=1")
    'https://host:8080/a.zarr'
    """
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def is_zip(path: Path) -> bool:
    """Return whether a file begins like a zip file."""
    with path.open("rb") as file:
        return file.read(4) == _ZIP_MAGIC


def open_store(source: Path | str) -> Store:
    """Return the store in a folder, zip file or behind an address; nothing is fetched yet.

    Raises
    ------
    MissingExtraError
        If the optional extra for addresses is not installed.
    SourceUnreachableError
        If the address is of a kind that cannot be followed.
    """
    if isinstance(source, str):
        return _remote_store(source)
    return LocalStore(source, read_only=True) if source.is_dir() else ZipStore(source)


def root_in(source: Path | str, marks: Collection[str]) -> str:
    """Return the path of the outermost folder that holds one of the files `marks`.

    It is the store itself, except in a zip file that was made of a folder with that folder's name.
    """
    if isinstance(source, str) or source.is_dir():
        return ""
    with zipfile.ZipFile(source) as archive:
        names = (PurePosixPath(name) for name in archive.namelist())
        folders = [name.parent for name in names if name.name in marks]
    outermost = min(folders, key=lambda folder: len(folder.parts), default=PurePosixPath())
    return "" if outermost == PurePosixPath() else str(outermost)


@contextmanager
def settled() -> Iterator[None]:
    """If something fails, wait for all that zarr-python has under way.

    It leaves the other chunks of a region alone when one fails, and complains of them at length
    when the program ends.
    """
    try:
        yield
    except Exception:
        sync(_others_done())
        raise


async def _others_done() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_READ_S)


class _RemoteStore(FsspecStore):
    """Chunks behind an address; what goes wrong on the way is told in one sentence."""

    failures: tuple[type[Exception], ...] = (OSError,)
    """What is raised if an address cannot be followed."""
    failed: SourceUnreachableError | None = None
    """What went wrong once: requests that wait in line need not try as well."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with self._explained():
            return await super().get(key, prototype, byte_range)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        with self._explained():
            async for name in super().list_dir(prefix):
                yield name

    @contextmanager
    def _explained(self) -> Iterator[None]:
        if self.failed:
            raise self.failed
        try:
            yield
        except BioSegmentError:
            raise
        except self.failures as exc:
            address = self.path if "://" in self.path else f"s3://{self.path}"
            self.failed = SourceUnreachableError(address, _reason(exc))
            raise self.failed from exc


def _remote_store(address: str) -> Store:
    scheme = urlsplit(address).scheme.lower()
    if scheme in ("http", "https"):
        aiohttp = optional_module("aiohttp", address, EXTRA)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
        options: dict[str, Any] = {"client_kwargs": {"timeout": timeout}}
        failures: tuple[type[Exception], ...] = (OSError, aiohttp.ClientError)
    elif scheme == "s3":
        optional_module("s3fs", address, EXTRA)
        botocore = optional_module("botocore.session", address, EXTRA)
        errors = optional_module("botocore.exceptions", address, EXTRA)
        limits = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S}
        # Public buckets are open to those who do not say who they are.
        anonymous = botocore.get_session().get_credentials() is None
        options = {"anon": anonymous, "config_kwargs": limits}
        failures = (OSError, errors.BotoCoreError, errors.ClientError)
    else:
        raise SourceUnreachableError(address, "only http, https and s3 addresses are followed")
    fsspec = optional_module("fsspec", address, EXTRA)
    wrapper = optional_module("fsspec.implementations.asyn_wrapper", address, EXTRA)
    # A file system of its own closes its connections when it is dropped, one that is shared or
    # asynchronous does not.
    files, path = fsspec.url_to_fs(address.rstrip("/"), skip_instance_cache=True, **options)
    asynchronous = wrapper.AsyncFileSystemWrapper(files, asynchronous=True)
    store = _RemoteStore(asynchronous, read_only=True, path=path)
    store.failures = failures
    return store


def _reason(exc: Exception) -> str:
    status = getattr(exc, "status", None)
    if isinstance(exc, PermissionError) or status in (401, 403):
        return (
            "access is denied; give credentials that may read it, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or check the address"
        )
    words = " ".join(f"{exc}".split())[:200] or type(exc).__name__
    return f"the server answers with {status}" if status else f"it does not answer ({words})"
