"""The job queue: when a project's turn of the loop is due, and that only one runs at a time.

A project has at most one turn running and one waiting. The queue itself says whether one waits;
a lock says whether one runs; a mark asks the running one for another turn. All of it lives in
Redis and may be lost: `lost_work` finds again what is due.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError
from rq import Queue, Worker, get_current_job
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from biosegment.errors import QueueError, QueuePasswordError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json
from biosegment.settings import Settings
from ml_backend.held_lock import LOCK_TIMEOUT_S, held
from ml_backend.job_names import kind_of, segmentation_prefix, tuning_prefix, turn_prefix, work_of
from ml_backend.job_report import JobReport
from ml_backend.job_totals import JobTotals
from ml_backend.loop_job import LoopJob

logger = logging.getLogger(__name__)

QUEUE_NAME: Final = "biosegment"
JOB_TIMEOUT_S: Final = 24 * 3600
KEEP_S: Final = 7 * 24 * 3600
"""How long finished and failed jobs can be looked at."""


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
        self.queue = Queue(
            QUEUE_NAME, connection=connection, serializer=JSONSerializer, job_class=LoopJob
        )
        self.connection = connection

    @property
    def address(self) -> str:
        """Where Redis is, without its password."""
        return _address(self.connection)

    def request_turn(self, project_id: int, *, force: bool = False) -> str:
        """Make sure that a turn of the project starts after now, and return its job's id.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        force
            Whether that turn trains however few annotations are new.
        """
        prefix = turn_prefix(project_id, force=force)
        with self.errors(), self.connection.lock(f"biosegment:enqueue:{project_id}", timeout=5):
            for job_id in self.queue.job_ids:
                if job_id.startswith(prefix):
                    return job_id
            job_id = self._enqueue("ml_backend.jobs.turn", prefix, project_id, force)
            # Where the status page looks for the latest turn.
            self.connection.set(_latest_key(project_id), job_id, ex=KEEP_S)
            return job_id

    def job(self, job_id: str) -> Job | None:
        """Return a job; None when it is unknown or was forgotten."""
        with self.errors():
            try:
                return LoopJob.fetch(job_id, self.connection, serializer=JSONSerializer)
            except NoSuchJobError:
                return None

    def latest(self, project_id: int) -> Job | None:
        """Return the project's job that was asked for last."""
        with self.errors():
            job_id = self.connection.get(_latest_key(project_id))
        return self.job(job_id.decode()) if isinstance(job_id, bytes) else None

    def running(self, project_id: int) -> Job | None:
        """Return the project's job that is running."""
        with self.errors():
            for job_id in self._started():
                if job_id.startswith(turn_prefix(project_id)):
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
        with self.errors(), self.connection.lock(f"biosegment:enqueue:{project_id}", timeout=5):
            known = self._unfinished(tuning_prefix(project_id))
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
        prefix = tuning_prefix(project_id)
        with self.errors():
            return self._enqueue("ml_backend.tuning_job.tune", prefix, project_id, trials, goes_on)

    def request_segmentation(self, order: Json) -> str:
        """Make sure that a segmentation waits or runs, and return its job's id.

        Parameters
        ----------
        order
            Fields of `ml_backend.segmentation_job.Order`.
        """
        prefix = segmentation_prefix(order)
        lock = f"biosegment:enqueue:{prefix}"
        with self.errors(), self.connection.lock(lock, timeout=5):
            return self._unfinished(prefix) or self.continue_segmentation(order)

    def continue_segmentation(self, order: Json) -> str:
        """Put a segmentation at the end of the queue, and return its job's id."""
        prefix, project_id = segmentation_prefix(order), order["plan"]["project_id"]
        with self.errors():
            job_id = self._enqueue("ml_backend.segmentation_job.segment", prefix, order)
            self.connection.set(_segmentation_key(project_id), job_id, ex=KEEP_S)
        return job_id

    def latest_segmentation(self, project_id: int) -> Job | None:
        """Return the job of the segmentation that was asked for last of a project's models."""
        with self.errors():
            job_id = self.connection.get(_segmentation_key(project_id))
        return self.job(job_id.decode()) if isinstance(job_id, bytes) else None

    @contextmanager
    def adding(self, project_id: int) -> Iterator[None]:
        """Hold the lock of whoever adds a task to a project, so that none is added twice."""
        lock = self.connection.lock(f"biosegment:adding:{project_id}", timeout=LOCK_TIMEOUT_S)
        with self.errors():
            lock.acquire()
        try:
            yield
        finally:
            with suppress(RedisError):
                lock.release()

    def _unfinished(self, prefix: str) -> str | None:
        """Return the job that runs or waits and whose id begins so."""
        known = [*self._started(), *self.queue.job_ids]
        return next((str(job_id) for job_id in known if job_id.startswith(prefix)), None)

    def _started(self) -> list[str]:
        """Return the jobs that run; those whose worker died are failed from now on."""
        registry = self.queue.started_job_registry
        registry.cleanup(exception_handlers=[JobTotals(self.connection).add_abandoned])
        return list(registry.get_job_ids(cleanup=False))

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
        # What failed before is tried again with it.
        self._forget(work_of(str(job.id)))
        return str(job.id)

    def _forget(self, work: str) -> None:
        """Forget the failed jobs that did the same work."""
        registry = self.queue.failed_job_registry
        for job_id in registry.get_job_ids():
            if work_of(job_id) == work:
                with suppress(NoSuchJobError):
                    registry.remove(job_id, delete_job=True)

    def retry(self, job_id: str) -> None:
        """Ask again for the work of a failed job, which is forgotten; others are left alone."""
        job = self.job(job_id)
        with self.errors():
            if job is None or not job.is_failed:
                return
        match kind_of(job_id), job.args:
            case "turn", [project_id, force]:
                self.request_turn(project_id, force=force)
            case "tune", [project_id, trials, _]:
                self.request_tuning(project_id, trials)
            case "segment", [order]:
                self.request_segmentation(order)
            case _:
                return
        # Also if the work waits or runs already.
        with self.errors():
            self._forget(work_of(job_id))

    def turn_waits(self) -> bool:
        """Return whether a turn of any project waits for a worker."""
        with self.errors():
            return any(job_id.startswith("turn-") for job_id in self.queue.job_ids)

    def has_worker(self) -> bool:
        """Return whether any worker takes jobs."""
        with self.errors():
            # Not Worker.count: that knows of killed ones, too.
            return bool(Worker.all(self.connection, queue=self.queue))

    def job_ids(self) -> dict[str, list[str]]:
        """Return the jobs that wait (the next one first), run, are finished, and failed."""
        with self.errors():
            return {
                "queued": self.queue.job_ids,
                "started": self._started(),
                "finished": self.queue.finished_job_registry.get_job_ids(),
                "failed": self.queue.failed_job_registry.get_job_ids(),
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
        lock = self.connection.lock(
            f"biosegment:running:{project_id}", timeout=LOCK_TIMEOUT_S, thread_local=False
        )
        with self.errors():
            alone = lock.acquire(blocking=False)
            if not alone:
                self.connection.sadd(again, int(force))
                self.connection.expire(again, KEEP_S)
                alone = lock.acquire(blocking=False)
        if not alone:
            yield False
            return
        try:
            with held(lock):
                yield True
        finally:
            with suppress(RedisError, QueueError):
                pipeline = self.connection.pipeline()
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
        lock = self.connection.lock(
            f"biosegment:tuning:{project_id}", timeout=LOCK_TIMEOUT_S, thread_local=False
        )
        with self.errors():
            lock.acquire()
        with held(lock):
            yield

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what Redis may raise in the block into `QueueError`."""
        try:
            yield
        except AuthenticationError as exc:
            raise QueuePasswordError(self.address) from exc
        except RedisError as exc:
            raise QueueError(self.address) from exc


def _latest_key(project_id: int) -> str:
    return f"biosegment:latest:{project_id}"


def _segmentation_key(project_id: int) -> str:
    return f"biosegment:segmentation:{project_id}"


def _address(connection: Redis) -> str:
    where: dict[str, Any] = connection.connection_pool.connection_kwargs
    return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")


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
