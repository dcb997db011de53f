"""The wall clock is set forward or back by hours while a worker runs, or Redis loses its data."""

from datetime import timedelta

import pytest
from rq import SimpleWorker
from rq.job import JobStatus
from rq.utils import now

from ml_backend.jobs import JobQueue, connect
from ml_backend.lost_work import RETRY_AFTER_S, _is_due
from ml_backend.worker import MAINTENANCE_S, LoopWorker


def test_lost_work_is_looked_for_as_ever(settings, monkeypatch):
    worker = LoopWorker(settings)
    assert worker.should_run_maintenance_tasks
    worker.run_maintenance_tasks()
    assert not worker.should_run_maintenance_tasks
    worker.last_cleaned_at = now() + timedelta(hours=2)
    monkeypatch.setattr(worker, "_maintained_s", worker._maintained_s - MAINTENANCE_S - 1)
    assert worker.should_run_maintenance_tasks


def test_a_worker_that_redis_forgot_makes_itself_known(settings):
    worker = LoopWorker(settings)
    worker.register_birth()
    with connect(settings) as connection:
        jobs = JobQueue(connection)
        assert jobs.has_worker()
        connection.flushall()
        # As it does while it waits for a job.
        worker.heartbeat()
        assert not jobs.has_worker()
        worker.run_maintenance_tasks()
        assert jobs.has_worker()


@pytest.mark.parametrize(
    ("ago_s", "is_due"), [(RETRY_AFTER_S / 2, False), (RETRY_AFTER_S + 1, True), (-7200, True)]
)
def test_a_failed_turn_is_tried_again(settings, monkeypatch, ago_s, is_due):
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    with connect(settings) as connection:
        jobs = JobQueue(connection)
        job = jobs.job(jobs.request_turn(1))
        queue = jobs.queue
        worker = SimpleWorker([queue], connection=connection, serializer=queue.serializer)
        # Label Studio does not answer: the turn fails.
        worker.work(burst=True)
        job.refresh()
        assert job.get_status() == JobStatus.FAILED
        job.ended_at = now() - timedelta(seconds=ago_s)
        assert _is_due({}, job) is is_due
