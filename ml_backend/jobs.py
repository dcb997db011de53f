"""The job queue: when a project's turn of the loop is due, and that only one runs at a time.

A project has at most one turn running and one waiting. The queue itself says whether one waits;
a lock says whether one runs; a mark asks the running one for another turn. All of it lives in
Redis and may be lost: `reconcile` finds again what is due.
"""

import hashlib
import json
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from redis import Redis
from redis.exceptions import LockError, RedisError
from rq import Queue, Worker, get_current_job
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now

from biosegment.errors import QueueError, SettingsError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, project_state
from biosegment.settings import Settings
from ml_backend.job_report import JobReport, is_abandoned

logger = logging.getLogger(__name__)

QUEUE_NAME: Final = "biosegment"
JOB_TIMEOUT_S: Final = 24 * 3600
LOCK_TIMEOUT_S: Final = 60
"""A turn whose process died without a word is over after this long."""
KEEP_S: Final = 7 * 24 * 3600
"""How long finished and failed jobs can be looked at."""
RETRY_AFTER_S: Final = 60
"""A project whose last turn failed is left alone this long, unless something new happens."""


def connect(settings: Settings, timeout_s: float | None = None) -> Redis:
    """Return a connection to Redis.

    Parameters
    ----------
    settings
        Its address.
    timeout_s
        How long a call may take; a worker, which waits for jobs, has no limit.
    """
    return Redis.from_url(
        settings.redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s or 5
    )


class JobQueue:
    """The turns of the loop of all projects.

    Parameters
    ----------
    connection
        To Redis. Every method raises `QueueError` when it does not answer.
    """

    def __init__(self, connection: Redis) -> None:
        self.queue = Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)
        self._connection = connection

    @property
    def address(self) -> str:
        """Where Redis is, without its password."""
        return _address(self._connection)

    def request_turn(self, project_id: int, *, force: bool = False) -> str:
        """Make sure that a turn of the project starts after now, and return its job's id.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        force
            Whether that turn trains however few annotations are new.
        """
        prefix = f"turn-{project_id}-{'forced-' if force else ''}"
        with self._errors(), self._connection.lock(f"biosegment:enqueue:{project_id}", timeout=5):
            for job_id in self.queue.job_ids:
                if job_id.startswith(prefix):
                    return job_id
            job_id = self._enqueue("ml_backend.jobs.turn", prefix, project_id, force)
            # Where the status page looks for the latest turn.
            self._connection.set(_latest_key(project_id), job_id, ex=KEEP_S)
            return job_id

    def job(self, job_id: str) -> Job | None:
        """Return a job; None when it is unknown or was forgotten."""
        with self._errors():
            try:
                return Job.fetch(job_id, self._connection, serializer=JSONSerializer)
            except NoSuchJobError:
                return None

    def latest(self, project_id: int) -> Job | None:
        """Return the project's job that was asked for last."""
        with self._errors():
            job_id = self._connection.get(_latest_key(project_id))
        return self.job(job_id.decode()) if isinstance(job_id, bytes) else None

    def running(self, project_id: int) -> Job | None:
        """Return the project's job that is running."""
        with self._errors():
            for job_id in self.queue.started_job_registry.get_job_ids():
                if job_id.startswith(f"turn-{project_id}-"):
                    return self.job(job_id)
        return None

    def request_tuning(self, project_id: int, trials: int) -> str:
        """Make sure that a search for a better recipe waits or runs, and return its job's id.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        trials
            Recipes that are tried in all, those of an interrupted search included.
        """
        with self._errors(), self._connection.lock(f"biosegment:enqueue:{project_id}", timeout=5):
            known = self._unfinished(f"tune-{project_id}-")
            return known or self.continue_tuning(project_id, trials, goes_on=False)

    def continue_tuning(self, project_id: int, trials: int, *, goes_on: bool = True) -> str:
        """Put a search at the end of the queue, and return its job's id.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        trials
            Recipes that are tried in all.
        goes_on
            Whether it stays with the annotations that an earlier job began with.
        """
        prefix = f"tune-{project_id}-"
        with self._errors():
            return self._enqueue("ml_backend.tuning_job.tune", prefix, project_id, trials, goes_on)

    def request_segmentation(self, order: Json) -> str:
        """Make sure that a segmentation waits or runs, and return its job's id.

        Parameters
        ----------
        order
            Fields of `ml_backend.segmentation_job.Order`.
        """
        prefix = _segmentation_prefix(order)
        lock = f"biosegment:enqueue:{prefix}"
        with self._errors(), self._connection.lock(lock, timeout=5):
            return self._unfinished(prefix) or self.continue_segmentation(order)

    def continue_segmentation(self, order: Json) -> str:
        """Put a segmentation at the end of the queue, and return its job's id."""
        prefix, project_id = _segmentation_prefix(order), order["plan"]["project_id"]
        with self._errors():
            job_id = self._enqueue("ml_backend.segmentation_job.segment", prefix, order)
            self._connection.set(_segmentation_key(project_id), job_id, ex=KEEP_S)
        return job_id

    def latest_segmentation(self, project_id: int) -> Job | None:
        """Return the job of the segmentation that was asked for last of a project's models."""
        with self._errors():
            job_id = self._connection.get(_segmentation_key(project_id))
        return self.job(job_id.decode()) if isinstance(job_id, bytes) else None

    @contextmanager
    def adding(self, project_id: int) -> Iterator[None]:
        """Hold the lock of whoever adds a task to a project, so that none is added twice."""
        lock = self._connection.lock(f"biosegment:adding:{project_id}", timeout=LOCK_TIMEOUT_S)
        with self._errors():
            lock.acquire()
        try:
            yield
        finally:
            with suppress(RedisError):
                lock.release()

    def _unfinished(self, prefix: str) -> str | None:
        """Return the job that runs or waits and whose id begins so."""
        known = [*self.queue.started_job_registry.get_job_ids(), *self.queue.job_ids]
        return next((str(job_id) for job_id in known if job_id.startswith(prefix)), None)

    def _enqueue(self, function: str, prefix: str, *arguments: Any) -> str:  # noqa: ANN401 (JSON)
        job = self.queue.enqueue(
            function,
            *arguments,
            job_id=prefix + uuid.uuid4().hex,
            description=prefix.rstrip("-"),
            job_timeout=JOB_TIMEOUT_S,
            result_ttl=KEEP_S,
            failure_ttl=KEEP_S,
        )
        return str(job.id)

    def turn_waits(self) -> bool:
        """Return whether a turn of any project waits for a worker."""
        with self._errors():
            return any(job_id.startswith("turn-") for job_id in self.queue.job_ids)

    def has_worker(self) -> bool:
        """Return whether any worker takes jobs."""
        with self._errors():
            # Not Worker.count: that knows of killed ones, too.
            return bool(Worker.all(self._connection, queue=self.queue))

    def counts(self) -> dict[str, int]:
        """Return how many jobs are waiting, running, finished and failed."""
        with self._errors():
            return {
                "queued": len(self.queue),
                "started": self.queue.started_job_registry.count,
                "finished": self.queue.finished_job_registry.count,
                "failed": self.queue.failed_job_registry.count,
            }

    @contextmanager
    def exclusive(self, project_id: int, *, force: bool = False) -> Iterator[bool]:
        """Hold a project's lock; yields False when another process holds it.

        Whoever is turned away leaves a mark, and the holder asks for one more turn when it lets
        go. The lock is tried again once the mark is made, and the mark is read once the lock is
        released, so none is overlooked.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        force
            Whether the turn asked for instead has to train.
        """
        again = f"biosegment:again:{project_id}"
        lock = self._connection.lock(
            f"biosegment:running:{project_id}", timeout=LOCK_TIMEOUT_S, thread_local=False
        )
        with self._errors():
            alone = lock.acquire(blocking=False)
            if not alone:
                self._connection.sadd(again, int(force))
                self._connection.expire(again, KEEP_S)
                alone = lock.acquire(blocking=False)
        if not alone:
            yield False
            return
        try:
            with _held(lock):
                yield True
        finally:
            with suppress(RedisError, QueueError):
                pipeline = self._connection.pipeline()
                pipeline.smembers(again)
                pipeline.delete(again)
                marks, _ = pipeline.execute()  # type: ignore[no-untyped-call]
                if marks:
                    self.request_turn(project_id, force=b"1" in marks)

    @contextmanager
    def exclusive_tuning(self, project_id: int) -> Iterator[None]:
        """Hold the lock of a project's search, once whoever holds it has let go or died.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        """
        lock = self._connection.lock(
            f"biosegment:tuning:{project_id}", timeout=LOCK_TIMEOUT_S, thread_local=False
        )
        with self._errors():
            lock.acquire()
        with _held(lock):
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except RedisError as exc:
            raise QueueError(self.address) from exc


def _latest_key(project_id: int) -> str:
    return f"biosegment:latest:{project_id}"


def _segmentation_key(project_id: int) -> str:
    return f"biosegment:segmentation:{project_id}"


def _segmentation_prefix(order: Json) -> str:
    # No id begins like that of another order, whatever the names in it.
    return f"segment-{hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()}-"


def _address(connection: Redis) -> str:
    where: dict[str, Any] = connection.connection_pool.connection_kwargs
    return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")


@contextmanager
def _held(lock: Any) -> Iterator[None]:  # noqa: ANN401
    """Renew an acquired lock until the block ends, then release it."""
    done = threading.Event()
    heart = threading.Thread(target=_hold, args=(lock, done), daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        # Also a LockError: it ran out while this process was stopped.
        with suppress(RedisError):
            lock.release()


def _hold(lock: Any, done: threading.Event) -> None:  # noqa: ANN401
    """Renew a lock until told to stop; end this process if its worker has died."""
    parent = os.getppid()
    while not done.wait(LOCK_TIMEOUT_S / 12):
        if os.getppid() != parent:
            # Nobody would hear of the result, and another worker takes over.
            os._exit(1)
        with suppress(RedisError, LockError):
            lock.reacquire()


def turn(project_id: int, force: bool) -> dict[str, Any] | None:
    """Run one turn of the loop of a project: the job that the queue names.

    Returns
    -------
    dict or None
        What `ml_backend.loop.Loop.turn` returns; None when another process is at it.
    """
    # The worker process imports these once, before it forks; the web process never does.
    from ml_backend.loop import Loop

    settings = Settings.from_env()
    with JobQueue(connect(settings)).exclusive(project_id, force=force) as alone:
        if not alone:
            return None
        report = JobReport(get_current_job())
        with LabelStudioClient(settings) as client:
            state = Loop(settings, client).turn(project_id, force=force, report=report)
        report("done", 1, 1)
        return state


def reconcile(client: LabelStudioClient, jobs: JobQueue) -> None:
    """Ask for a turn of every connected project that is not as its last turn left it.

    Finds what was lost with Redis, with a worker, or with a webhook that came while Redis was
    away, and mends a webhook that has no credentials.
    """
    projects = {project["id"]: project for project in client.projects()}
    for project_id in client.connected_projects():
        client.connect_webhook(project_id)
        if project_id not in projects or jobs.running(project_id):
            continue
        wanted = project_state(projects[project_id]) | {"strategy": _strategy(client, project_id)}
        if _is_due(wanted, jobs.latest(project_id)):
            jobs.request_turn(project_id)


def _strategy(client: LabelStudioClient, project_id: int) -> str | None:
    # A turn that fails says what is wrong with the options of one project; the others go on.
    with suppress(SettingsError):
        options = client.loop_options(project_id)
        return options.strategy if options else None
    return None


def _is_due(wanted: Json, latest: Job | None) -> bool:
    status = latest.get_status() if latest else None
    if latest is None or status in {JobStatus.QUEUED, JobStatus.STARTED}:
        return latest is None
    if status == JobStatus.FAILED:
        if is_abandoned(latest) or latest.ended_at is None:
            return True
        return (now() - latest.ended_at).total_seconds() > RETRY_AFTER_S
    left = latest.return_value() or {}
    return any(left.get(key) != value for key, value in wanted.items())
