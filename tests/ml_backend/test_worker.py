"""What a worker process tells of itself, and what the logs tell of jobs and requests."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest

from biosegment import __version__
from biosegment.log import JsonFormatter
from ml_backend.hardware import best_device
from ml_backend.jobs import JobQueue, connect
from ml_backend.queue_state import workers
from ml_backend.segmentation import SegmentationPlan
from ml_backend.segmentation_job import Order
from ml_backend.status import failure_reason
from ml_backend.worker import LoopWorker


@pytest.fixture
def worker(settings, tmp_path):
    """A worker process that logs objects."""
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ml_backend.worker"],
            env=os.environ | settings.environment() | {"BIOSEGMENT_LOG_FORMAT": "json"},
            stderr=log,
        )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def log_lines():
    """Return the objects that our own packages logged since."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("ml_backend")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.setLevel(before)
    logger.removeHandler(handler)


def test_a_worker_says_what_it_is_and_logs_what_it_works_on(worker, settings, tmp_path, wait_until):
    with connect(settings, timeout_s=5) as connection:
        jobs = JobQueue(connection)
        job_id = jobs.request_turn(3)
        wait_until(lambda: jobs.job(job_id).is_failed, 120, "the turn failed")
        [state] = workers(jobs)
    assert state.host == socket.gethostname()
    assert state.software == __version__
    assert bool(state.device) is (best_device().type == "cuda")
    assert state.heartbeat_age_s < 60
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    [failed] = [line for line in lines if line.get("job") == job_id]
    assert failed["project"] == 3
    assert failed["level"] == "ERROR"
    assert "it does not answer" in failed["exception"]
    assert not [line for line in lines if settings.label_studio_api_key in str(line)]


def test_segmentations_are_left_to_workers_that_see_volumes(worker, settings, wait_until, request):
    """The turn that was asked for later is done; the segmentation once there are volumes."""
    plan = SegmentationPlan(3, "0001-20261122T101530")
    with connect(settings, timeout_s=5) as connection:
        jobs = JobQueue(connection)
        segmentation = jobs.request_segmentation(asdict(Order("sample", "labels", plan)))
        turn = jobs.request_turn(3)
        wait_until(lambda: jobs.job(turn).is_failed, 120, "the turn failed")
        assert jobs.job(segmentation).is_queued
        wait_until(lambda: jobs.job_ids()["queued"] == [segmentation], 30, "it waits")
        request.getfixturevalue("volume")
        wait_until(lambda: jobs.job(segmentation).is_failed, 120, "it was taken")
        assert "has no model version" in failure_reason(jobs.job(segmentation))
        assert queued(connection) == []
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def queued(connection):
    """Return what waits, or was taken from the queue by a worker that is not at it."""
    keys = connection.keys("rq:queue:*")
    return [job for key in keys for job in connection.lrange(key, 0, -1)]


def test_the_log_follows_an_annotation_to_its_job(http, log_lines):
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 7}}
    answer = http.post("/webhook", json=event)
    [line] = log_lines()
    assert line["message"] == "ANNOTATION_CREATED: a turn is due"
    assert (line["project"], line["job"]) == (7, answer.json["job"])


def test_an_error_tells_the_project_of_its_own_request(http, log_lines):
    http.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 7}})
    http.get("/projects/8/options")
    http.post("/predict", data=b"{")
    _, options, predict = log_lines()
    assert options["project"] == 8
    assert "job" not in options
    assert "project" not in predict


def test_a_worker_that_is_to_end_ends_with_what_it_cannot_do_left(settings, http, serve):
    with connect(settings) as connection:
        jobs = JobQueue(connection)
        order = Order("sample", "labels", SegmentationPlan(3, serve(3)))
        segmentation = jobs.request_segmentation(asdict(order))
        LoopWorker(settings).work(burst=True)
        assert jobs.job_ids()["queued"] == [segmentation]
    assert "sample: waiting for a worker that has volumes in its data folder" in http.get("/").text
