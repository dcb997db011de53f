"""Looks at all parts of an installation, and says what to do about what is not in order."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

import httpx
from redis.exceptions import AuthenticationError, RedisError

from biosegment import __version__
from biosegment.errors import BioSegmentError
from biosegment.findings import Finding, Level, failure, ok, warning
from biosegment.labelstudio.checks import check_label_studio
from biosegment.labelstudio.connection import authorization_header
from biosegment.settings import Settings
from ml_backend.jobs import JobQueue, connect
from ml_backend.model_storage import ModelStorage
from ml_backend.queue_state import WorkerState, workers

TIMEOUT_S: Final = 5
SILENT_S: Final = 60
"""A worker that was not heard of for so long is dead, or cannot reach Redis."""
LITTLE_BYTES: Final = 10 * 2**30
TOO_LITTLE_BYTES: Final = 2**30
LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what is found, check by check; everything is left as it is."""
    reached = False
    for finding in check_label_studio(settings):
        reached = reached or (finding.check == "backend" and finding.level is Level.OK)
        yield finding
    yield from _backend(settings, reached=reached)
    yield from _queue(settings)
    yield _disk(settings)
    if settings.model_storage:
        yield _storage(settings.model_storage)
    yield _software()


def _backend(settings: Settings, *, reached: bool) -> Iterator[Finding]:
    """Yield how the backend answers this machine; `reached` tells that it answers Label Studio."""
    url, right = settings.backend_url, authorization_header(settings)
    wrong = {"Authorization": "Basic bm9ib2R5Om5vYm9keQ=="}
    try:
        httpx.get(f"{url}/health", timeout=TIMEOUT_S).raise_for_status()
        known, unknown = (
            httpx.get(f"{url}/versions", headers=headers, timeout=TIMEOUT_S).status_code
            for headers in (right, wrong)
        )
    except httpx.HTTPError as exc:
        sentence = f"No backend answers this machine at {url} ({exc})"
        if reached:
            yield warning("backend", f"{sentence}; Label Studio reaches it, which is enough.")
        else:
            yield failure("backend", f"{sentence}; start it, or set BIOSEGMENT_BACKEND_URL.")
        return
    if known == httpx.codes.UNAUTHORIZED:
        yield failure(
            "backend",
            f"The backend at {url} refuses the credentials; set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS to what it was started with.",
        )
    elif known != httpx.codes.OK:
        yield failure("backend", f"The backend at {url} answers {known}; its log says why.")
    elif unknown != httpx.codes.UNAUTHORIZED:
        yield warning(
            "backend",
            f"The backend at {url} lets everybody in; start it with BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS.",
        )
    else:
        yield ok("backend", f"The backend at {url} takes the credentials, and refuses others.")


def _queue(settings: Settings) -> Iterator[Finding]:
    with connect(settings, timeout_s=TIMEOUT_S) as connection:
        jobs = JobQueue(connection)
        try:
            software = connection.info("server")["redis_version"]
            found = workers(jobs)
        except AuthenticationError:
            yield failure(
                "Redis",
                f"Redis at {jobs.address} refuses the password; set REDIS_URL to "
                "redis://:PASSWORD@HOST:PORT/0 with the right one.",
            )
            return
        except (RedisError, OSError) as exc:
            yield failure(
                "Redis",
                f"Redis at {jobs.address} does not answer ({exc}); start it, or set REDIS_URL.",
            )
            return
        where = connection.connection_pool.connection_kwargs
    if where.get("path") or where.get("password") or where.get("host") in LOOPBACK:
        yield ok("Redis", f"Redis {software} answers at {jobs.address}.")
    else:
        yield warning(
            "Redis",
            f"Redis {software} at {jobs.address} asks for no password, though other machines can "
            "reach it; give it one (requirepass).",
        )
    yield from _workers(jobs.address, found)


def _workers(address: str, found: list[WorkerState]) -> Iterator[Finding]:
    alive = [each for each in found if each.heartbeat_age_s <= SILENT_S]
    for each in found:
        if each not in alive:
            yield warning(
                "workers",
                f"A worker on {each.host} was not heard of for {each.heartbeat_age_s:.0f} s; it "
                "is dead, or cannot reach Redis.",
            )
    if not alive:
        yield failure(
            "workers",
            f"No worker takes jobs from Redis at {address}, so nothing is trained; start one with "
            "`python -m ml_backend.worker`, or look at its log.",
        )
        return
    hosts = Counter(each.host for each in alive)
    heard = max(each.heartbeat_age_s for each in alive)
    where = ", ".join(f"{count} on {host}" for host, count in sorted(hosts.items()))
    yield ok("workers", f"{len(alive)} live ({where}), the last heard of {heard:.0f} s ago.")
    yield _devices(alive)
    others = sorted({each.software for each in alive} - {__version__, ""})
    if others:
        yield warning(
            "workers",
            f"Some run BioSegment {', '.join(others)}, this is {__version__}; install the same "
            "everywhere.",
        )


def _devices(alive: list[WorkerState]) -> Finding:
    devices = Counter(each.device for each in alive if each.device)
    if devices:
        names = ", ".join(f"{count} on {name}" for name, count in sorted(devices.items()))
        return ok("GPU", f"{devices.total()} of {len(alive)} workers compute on a GPU ({names}).")
    if shutil.which("nvidia-smi"):
        return warning(
            "GPU",
            "No worker computes on a GPU, though this machine has an NVIDIA driver; install the "
            "CUDA build of PyTorch where the GPU is, and restart the worker there.",
        )
    return ok("GPU", "No worker has a GPU; they compute on the CPU.")


def _disk(settings: Settings) -> Finding:
    folder = settings.data_root
    if not folder.is_dir():
        return failure(
            "disk", f"There is no data folder {folder}; set BIOSEGMENT_DATA, or mount it."
        )
    free = shutil.disk_usage(folder).free
    sentence = f"{free / 2**30:.1f} GB are free for {folder}"
    if free < TOO_LITTLE_BYTES:
        return failure("disk", f"Only {sentence}; make room, or no model can be written.")
    if free < LITTLE_BYTES:
        return warning("disk", f"Only {sentence}; make room soon.")
    return ok("disk", f"{sentence}.")


def _storage(url: str) -> Finding:
    try:
        projects = [name for name in ModelStorage(url).folders() if name.isdecimal()]
    except BioSegmentError as exc:
        return failure("models", str(exc))
    return ok("models", f"Projects with models in the storage {url}: {len(projects)}.")


def _software() -> Finding:
    python = ".".join(map(str, sys.version_info[:3]))
    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "rq", "label-studio-sdk"))
    return ok("software", f"BioSegment {__version__}, Python {python}, {others}.")
