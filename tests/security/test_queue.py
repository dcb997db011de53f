"""What somebody can do who may write to Redis: ask for our own jobs, and nothing else."""

import json
import uuid
import zlib

import pytest
from rq import Callback
from rq.job import Job, JobStatus
from rq.serializers import DefaultSerializer, JSONSerializer

from ml_backend.jobs import QUEUE_NAME, JobQueue
from ml_backend.loop_job import FUNCTIONS, LoopJob

TURN = "ml_backend.jobs.turn"


@pytest.fixture
def connection(installation):
    with installation.connect() as connection:
        yield connection


@pytest.fixture
def proof(tmp_path):
    """A file that is there once a forged job has run."""
    return tmp_path / "proof"


@pytest.fixture
def worker_is_done(installation, connection, wait_until):
    """Wait until the worker has taken all that was in the queue before, and an honest job."""

    def wait():
        assert installation.is_alive("worker")
        job = JobQueue(connection).queue.enqueue(TURN, 12345, False, job_id=f"turn-{uuid.uuid4()}")
        wait_until(lambda: job.get_status() is JobStatus.FAILED, 60, "an honest job has run")

    return wait


def forged(connection, function, *args, serializer=JSONSerializer, fields=None, **options):
    """Write a job to Redis by hand, and then its number into the queue."""
    job = Job.create(
        function,
        args,
        connection=connection,
        serializer=serializer,
        id=uuid.uuid4().hex,
        origin=QUEUE_NAME,
        status=JobStatus.QUEUED,
        **options,
    )
    job.save()
    if fields:
        connection.hset(job.key, mapping=fields)
    connection.rpush(f"rq:queue:{QUEUE_NAME}", job.id)
    return job


@pytest.mark.parametrize(
    "function",
    ["os.system", "subprocess.getoutput", "builtins.exec", "ml_backend.jobs.os.system"],
)
def test_a_job_that_calls_something_else_does_not_run(connection, proof, worker_is_done, function):
    forged(connection, function, f"touch {proof}")
    worker_is_done()
    assert not proof.exists()


@pytest.mark.parametrize("when", ["on_success", "on_failure", "on_stopped"])
def test_a_job_with_a_callback_does_not_run(connection, proof, worker_is_done, when):
    job = forged(connection, TURN, 1, False, **{when: Callback("os.system")})
    worker_is_done()
    # It fails, for there is no Label Studio, if it is run.
    assert job.get_status() is JobStatus.QUEUED


def test_a_pickle_is_not_opened(connection, proof, worker_is_done):
    class Bomb:
        def __reduce__(self):
            import os

            return os.system, (f"touch {proof}",)

    forged(connection, TURN, Bomb(), serializer=DefaultSerializer)
    forged(connection, TURN, 1, False, fields={"meta": DefaultSerializer.dumps(Bomb())})
    worker_is_done()
    assert not proof.exists()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (TURN, ("../../../etc", False)),
        (TURN, (-1, False)),
        (TURN, (True, False)),
        (TURN, (1,)),
        (TURN, (1, "False")),
        ("ml_backend.tuning_job.tune", ("../../../etc", 1, True)),
        ("ml_backend.segmentation_job.segment", ("order",)),
    ],
    ids=str,
)
def test_arguments_are_numbers_where_we_give_numbers(connection, worker_is_done, function, args):
    job = forged(connection, function, *args)
    worker_is_done()
    assert job.get_status() is JobStatus.QUEUED


def test_a_method_of_a_value_is_not_called(connection, worker_is_done):
    data = json.dumps(["format", "text", [], {}]).encode()
    job = forged(connection, TURN, 1, False, fields={"data": zlib.compress(data)})
    worker_is_done()
    assert job.get_status() is JobStatus.QUEUED


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[", b"[]", b"[" * 10**5, zlib.compress(bytes(2**28)), b"null"],
    ids=["empty", "bytes", "cut", "short", "nested", "bomb", "null"],
)
def test_what_cannot_be_read_stops_no_worker(installation, connection, worker_is_done, data):
    forged(connection, TURN, 1, False, fields={"data": data, "created_at": "yesterday"})
    worker_is_done()
    assert installation.is_alive("worker")


def test_a_forged_job_that_was_running_calls_nothing_in_the_web_process(connection, installation):
    """RQ calls a job's callback where it finds that the worker is gone: also in the backend."""
    jobs = JobQueue(connection)
    job = forged(connection, TURN, 1, False, on_failure=Callback("os.system"))
    registry = jobs.queue.started_job_registry
    connection.zadd(registry.key, {f"{job.id}:1": 1})
    jobs.job_ids()
    jobs.running(1)
    assert not registry.get_job_ids()
    assert jobs.job(job.id) is None


def test_a_job_waits_for_none_that_is_forged(settings):
    """A dependent of an honest job is not run, and does not keep that one from ending well."""
    from ml_backend.jobs import connect

    with connect(settings) as connection:
        queue = JobQueue(connection).queue
        honest = queue.enqueue(TURN, 1, False)
        dependent = Job.create(
            "os.system", ("true",), connection=connection, serializer=JSONSerializer
        )
        dependent.save()
        connection.sadd(honest.dependents_key, dependent.id)
        assert LoopJob.fetch_many([honest.id, dependent.id], connection, JSONSerializer) == [
            honest,
            None,
        ]
        queue.enqueue_dependents(honest)
        assert queue.job_ids == [honest.id]


def test_all_our_jobs_are_known(settings, monkeypatch):
    """Every function that is put into the queue is one that a worker runs."""
    from ml_backend.jobs import connect

    with connect(settings) as connection:
        jobs = JobQueue(connection)
        jobs.request_turn(1)
        jobs.request_tuning(1, 3)
        jobs.request_segmentation({"volume": "a", "name": "b", "plan": {"project_id": 1}})
        asked = [job for job_id in jobs.queue.job_ids if (job := jobs.job(job_id))]
        assert {job.func_name for job in asked} == set(FUNCTIONS)


def test_a_redis_with_a_password_refuses_those_without(installation):
    from redis import Redis
    from redis.exceptions import AuthenticationError

    address = installation.environment["REDIS_URL"].rpartition("@")[2]
    with Redis.from_url(f"redis://{address}") as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
