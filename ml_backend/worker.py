"""The worker process: runs the turns of the loop, one after the other."""

import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from typing import Any, Final

from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from biosegment import __version__
from biosegment.errors import BioSegmentError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.log import configure_logging, set_ids
from biosegment.settings import Settings
from biosegment.store import volume_names
from ml_backend.hardware import device_name, keep_memory
from ml_backend.job_names import kind_of, project_of
from ml_backend.job_report import JobReport
from ml_backend.job_totals import JobTotals
from ml_backend.jobs import JobQueue, connect
from ml_backend.loop_job import LoopJob
from ml_backend.lost_work import LostWork
from ml_backend.queue_state import DEVICE, SOFTWARE

logger = logging.getLogger(__name__)

MAINTENANCE_S: Final = 30
"""How often what was lost is looked for."""
ELSEWHERE_S: Final = 1
"""How long a worker waits that has put back a job which it cannot do."""
WAITS_FOR_VOLUMES: Final = "waiting for a worker that has volumes in its data folder"
"""Stage of a job that is put back."""
NICENESS: Final = 5
"""Training yields to the processes that somebody waits for."""


class LoopWorker(Worker):
    """An RQ worker that also finds lost work again, at its start and while it is idle."""

    max_connection_wait_time = 10.0

    def __init__(self, settings: Settings) -> None:
        connection = connect(settings)
        self._jobs = JobQueue(connection)
        self._lost_work = LostWork(self._jobs)
        self._totals = JobTotals(connection)
        self._settings = settings
        self._maintained_s: float | None = None
        super().__init__(
            [self._jobs.queue],
            connection=connection,
            job_class=LoopJob,
            serializer=JSONSerializer,
            exception_handlers=[self._totals.add_abandoned],
            maintenance_interval=MAINTENANCE_S,
            # RQ waits for a job up to 15 s less than this, then comes back to maintenance.
            worker_ttl=MAINTENANCE_S + 15,
            job_monitoring_interval=5,
        )

    def register_birth(self) -> None:
        """Say that this worker is there, and what it is and computes on."""
        super().register_birth()  # type: ignore[no-untyped-call]
        facts = {DEVICE: _device_of_jobs(), SOFTWARE: __version__}
        self.connection.hset(self.key, mapping=facts)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Return the next job that this worker can do, once there is one.

        Where no volumes are, as the data root is another machine's, segmentations are put at the
        end of the queue again, for a worker that sees them.
        """
        while found := super().dequeue_job_and_maintain_ttl(timeout, max_idle_time):
            job, queue = found
            if kind_of(job.id) != "segment" or volume_names(self._settings.data_root):
                break
            JobReport(job).note(stage=WAITS_FOR_VOLUMES)
            queue.push_job_id(job.id)
            queue.intermediate_queue.remove(job.id)
            if timeout is None:
                # This worker ends when nothing is left that it can do.
                return None
            time.sleep(ELSEWHERE_S)
        return found

    def perform_job(self, job: Job, queue: Queue) -> bool:
        """Run a job, whose id stands in all that is logged meanwhile."""
        set_ids(project=project_of(job.id), job=job.id)
        try:
            return super().perform_job(job, queue)
        finally:
            set_ids()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:  # noqa: ANN401 (sys.exc_info)
        """Log why a job failed, with the traceback where a program finds it."""
        logger.error("the job %s failed", job.id, exc_info=exc_info)

    def handle_job_success(self, job: Job, queue: Queue, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        """Keep the result, and count the job."""
        super().handle_job_success(job, queue, *arguments, **named)
        self._totals.add(job, "finished")

    def handle_job_failure(self, job: Job, queue: Queue, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        """Keep what it failed for, and count the job; also one whose process was killed."""
        super().handle_job_failure(job, queue, *arguments, **named)
        self._totals.add(job, "failed")

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether it is time again, also when the wall clock, by which RQ goes, was set back."""
        last = self._maintained_s
        return last is None or time.monotonic() - last > MAINTENANCE_S

    def run_maintenance_tasks(self) -> None:
        """Clean RQ's registries, then ask for the turns that are due."""
        self._maintained_s = time.monotonic()
        if not self.connection.hexists(self.key, "birth"):
            # Redis lost its data, or its clock was set forward: it has forgotten this worker.
            self.connection.delete(self.key)
            self.register_birth()
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        try:
            with LabelStudioClient(self._settings) as client:
                self._lost_work.find(client)
        except BioSegmentError as exc:
            logger.warning("could not look for lost work: %s", exc)


def _device_of_jobs() -> str:
    """Return what jobs compute on, as a process of theirs sees it.

    This process must not ask itself: once CUDA is awake in it, its forks cannot use it.
    """
    # A driver that fails is for the jobs to stumble over, not for the worker.
    with suppress(RuntimeError), ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        return child.submit(device_name).result()
    return ""


def main() -> None:
    """Run a worker until it is told to stop; one that cannot start says why in a sentence."""
    try:
        settings = Settings.from_env()
        jobs = JobQueue(connect(settings))
        with jobs.errors():
            jobs.connection.ping()
    except BioSegmentError as exc:
        sys.exit(f"Error: {exc}")
    configure_logging(settings.log_level, settings.log_format)
    os.nice(NICENESS)
    keep_memory()
    # Forked jobs start with it in memory; importing it costs each of them seconds otherwise.
    import_module("ml_backend.loop")
    LoopWorker(settings).work(logging_level="WARNING")


if __name__ == "__main__":
    main()
