"""What a job tells of itself while it runs."""

import pytest

from ml_backend import job_report
from ml_backend.job_report import JobReport
from ml_backend.jobs import JobQueue, connect


@pytest.fixture
def clock(monkeypatch):
    """Stands still until it is told to go on."""

    class Clock:
        now_s = 100.0

    monkeypatch.setattr(job_report.time, "monotonic", lambda: Clock.now_s)
    return Clock


@pytest.fixture
def told(settings):
    """Return what other processes see of a job, and its report."""
    with connect(settings) as connection:
        jobs = JobQueue(connection)
        job_id = jobs.request_turn(3)
        report = JobReport(jobs.job(job_id))
        yield report, lambda: jobs.job(job_id).get_meta()


def test_the_time_left_is_told_once_a_stage_is_steady(told, clock):
    report, seen = told
    report("training", 0, 100)
    clock.now_s += 2
    report("training", 20, 100)
    assert (seen()["done"], seen()["left_s"]) == (20, None)
    clock.now_s += 8
    report("training", 25, 100)
    assert seen()["left_s"] == 30.0
    report("publishing", 0, 7)
    assert seen()["left_s"] is None
    assert seen()["seconds"] == {"training": 10.0}


def test_what_was_done_before_the_job_does_not_shorten_the_time_left(told, clock):
    report, seen = told
    report("segmenting", 90, 100)
    clock.now_s += 10
    report("segmenting", 91, 100)
    assert seen()["left_s"] == 90.0
