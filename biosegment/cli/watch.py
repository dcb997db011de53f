"""Long jobs of a worker, watched from the command line."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from biosegment.cli.console import console
from biosegment.errors import BioSegmentError, NoWorkerError

if TYPE_CHECKING:
    from rq.job import Job

    from ml_backend.jobs import JobQueue

POLL_S: Final = 0.5
WITHOUT_WORKER_S: Final = 30
"""A worker that is restarted is away for less."""


def watch(
    jobs: "JobQueue",
    job_id: str,
    failure: Callable[[str], BioSegmentError],
    remark: Callable[[Mapping[str, Any]], str] = lambda _: "",
) -> Mapping[str, Any]:
    """Show a bar until a job, and those that go on with it, are over; return what the last said.

    Parameters
    ----------
    jobs
        The job queue.
    job_id
        Of the first job.
    failure
        Returns the error to raise for a reason.
    remark
        Returns what stands behind the bar, from what the job tells of itself.

    Raises
    ------
    NoWorkerError
        When there has been no worker for half a minute.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[remark]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task("", total=None, remark="")
            for job in _states(jobs, job_id, failure):
                meta = job.get_meta()
                bars.update(
                    bar,
                    description=meta.get("stage", "waiting for a worker"),
                    completed=meta.get("done", 0),
                    total=meta.get("total"),
                    remark=remark(meta),
                )
    except KeyboardInterrupt:
        console.print("It goes on in the worker; the same command shows it again.")
        raise typer.Exit(1) from None
    return cast("Mapping[str, Any]", job.return_value())


def _states(
    jobs: "JobQueue", job_id: str, failure: Callable[[str], BioSegmentError]
) -> "Iterator[Job]":
    """Yield the job as it is, twice a second, until the last one is finished."""
    worker_seen = time.monotonic()
    while True:
        job = _job(jobs, job_id, failure)
        if job.is_finished:
            following = (job.return_value() or {}).get("goes_on_as")
            if following is None:
                yield job
                return
            job_id = following
            continue
        yield job
        if jobs.has_worker():
            worker_seen = time.monotonic()
        elif time.monotonic() - worker_seen > WITHOUT_WORKER_S:
            raise NoWorkerError(jobs.address)
        time.sleep(POLL_S)


def _job(jobs: "JobQueue", job_id: str, failure: Callable[[str], BioSegmentError]) -> "Job":
    """Return a job that has not failed."""
    from ml_backend.job_report import is_abandoned
    from ml_backend.status import failure_reason

    job = jobs.job(job_id)
    again = "the same command takes it up where it stopped"
    if job is None:
        raise failure(f"the job queue lost it; {again}")
    if job.is_failed:
        died = f"the worker died; {again}"
        raise failure(died if is_abandoned(job) else failure_reason(job))
    return job
