"""What can be seen of the job queue from outside: its jobs, and the workers that take them."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from rq import Worker
from rq.utils import now
from rq.worker import BaseWorker

from ml_backend.job_names import kind_of, project_of
from ml_backend.jobs import JobQueue

DEVICE: Final = "device"
"""Field of a worker in Redis: the name of its GPU, empty if it computes on the CPU."""
SOFTWARE: Final = "biosegment"
"""Field of a worker in Redis: its version of BioSegment."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker that has said lately that it is alive."""

    host: str
    """Name of its machine."""
    device: str
    """Name of its GPU; empty if it has none, or does not tell."""
    software: str
    """Its version of BioSegment; empty if it does not tell."""
    heartbeat_age_s: float
    """How long ago it was heard of; up to 30 s is normal."""


def workers(jobs: JobQueue) -> list[WorkerState]:
    """Return the workers of the queue, by host.

    One that was killed is among them until its heartbeat is about two minutes old.
    """
    with jobs.errors():
        found = [_worker(jobs, each) for each in Worker.all(jobs.connection, queue=jobs.queue)]
    return sorted(found, key=lambda each: (each.host, each.heartbeat_age_s))


def _worker(jobs: JobQueue, worker: BaseWorker) -> WorkerState:
    fields = cast("list[bytes | None]", jobs.connection.hmget(worker.key, [DEVICE, SOFTWARE]))
    device, software = (each.decode() if each else "" for each in fields)
    heard = worker.last_heartbeat
    return WorkerState(worker.hostname or "?", device, software, _age_s(heard) if heard else 0.0)


def jobs_by_state(jobs: JobQueue) -> "Counter[tuple[str, str, int | None]]":
    """Return how many jobs there are of each state, kind and project."""
    return Counter(
        (state, kind_of(job_id), project_of(job_id))
        for state, ids in jobs.job_ids().items()
        for job_id in ids
    )


def waiting_s(jobs: JobQueue) -> float:
    """Return how long the job that is taken next has waited, 0 when none waits."""
    with jobs.errors():
        head = jobs.queue.get_job_ids(0, 1)
        job = jobs.job(head[0]) if head else None
    return _age_s(job.enqueued_at) if job and job.enqueued_at else 0.0


def _age_s(moment: datetime) -> float:
    # Clocks of two machines differ.
    return max(0.0, (now() - moment).total_seconds())
