import subprocess
import sys

import pytest
from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend.jobs import JobQueue, connect
from ml_backend.worker_health import is_alive, main


@pytest.fixture
def worker(settings):
    connection = connect(settings)
    worker = Worker([JobQueue(connection).queue], connection=connection, serializer=JSONSerializer)
    worker.register_birth()
    return worker


def test_a_worker_of_this_machine_is_seen(settings, worker):
    assert is_alive(settings)


def test_a_worker_that_ended_or_fell_silent_or_is_elsewhere_is_not(settings, worker):
    worker.connection.hset(worker.key, "last_heartbeat", "2026-01-01T00:00:00.000000Z")
    assert not is_alive(settings)
    worker.heartbeat()
    assert is_alive(settings)
    worker.connection.hset(worker.key, "hostname", "elsewhere")
    assert not is_alive(settings)
    worker.register_death()
    assert not is_alive(settings)


def test_a_dead_worker_is_one_sentence(settings, monkeypatch):
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    with pytest.raises(SystemExit, match=r"^Error: no worker on .*\.$"):
        main()


def test_a_redis_that_does_not_answer_is_one_sentence(settings, redis_process, monkeypatch):
    redis_process.stop()
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    with pytest.raises(SystemExit, match=r"^Error: Redis does not answer"):
        main()


def test_a_worker_does_not_start_without_redis(settings):
    done = subprocess.run(
        [sys.executable, "-m", "ml_backend.worker"],
        env={"REDIS_URL": "redis://localhost:1", "BIOSEGMENT_DATA": str(settings.data_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("Error: The job queue (Redis at localhost:1) does not answer")
