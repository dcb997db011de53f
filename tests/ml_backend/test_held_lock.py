import multiprocessing

import pytest

from ml_backend.held_lock import LOCK_TIMEOUT_S, held
from ml_backend.jobs import connect

NAME = "biosegment:running:1"


@pytest.fixture
def connection(settings):
    with connect(settings, timeout_s=0.5) as connection:
        yield connection


def lock_of(connection):
    return connection.lock(NAME, timeout=LOCK_TIMEOUT_S, thread_local=False)


def hold(settings, done):
    """Hold the lock until told to stop; ends with 3 if it may."""
    with connect(settings, timeout_s=0.5) as connection:
        lock = lock_of(connection)
        assert lock.acquire(blocking=False)
        with held(lock):
            done.wait(60)
    raise SystemExit(3)


@pytest.fixture
def holder(settings, connection, wait_until):
    """A process that holds the lock."""
    context = multiprocessing.get_context("fork")
    done = context.Event()
    process = context.Process(target=hold, args=(settings, done))
    process.start()
    wait_until(lambda: connection.get(NAME), 10, "the lock is held")
    yield process, done
    process.kill()
    process.join()


def test_a_lock_that_redis_lost_is_taken_again(holder, connection, wait_until):
    process, done = holder
    token = connection.get(NAME)
    connection.flushall()
    wait_until(lambda: connection.get(NAME) == token, 10, "the lock is held again")
    done.set()
    process.join(10)
    assert process.exitcode == 3
    assert connection.get(NAME) is None


def test_a_lock_outlives_a_redis_that_was_away(holder, connection, redis_process, wait_until):
    process, done = holder
    token = connection.get(NAME)
    redis_process.stop()
    redis_process.start()
    wait_until(lambda: connection.get(NAME) == token, 10, "the lock is held again")
    done.set()
    process.join(10)
    assert process.exitcode == 3


def test_whoever_finds_its_lock_with_another_ends(holder, connection):
    process, _ = holder
    connection.set(NAME, "somebody else")
    process.join(10)
    assert process.exitcode == 1
    assert connection.get(NAME) == b"somebody else"


def test_a_holder_does_not_renew_what_it_released(connection):
    lock = lock_of(connection)
    assert lock.acquire(blocking=False)
    with held(lock):
        pass
    assert connection.get(NAME) is None
