"""A lock in Redis that is renewed for as long as its holder lives."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from redis.exceptions import LockNotOwnedError, RedisError

LOCK_TIMEOUT_S: Final = 60
"""A turn whose process died without a word is over after this long."""
HEARTBEAT_S: Final = 1.0
"""How often a holder renews its lock, and looks whether it still has it."""


@contextmanager
def held(lock: Any) -> Iterator[None]:  # noqa: ANN401
    """Renew an acquired lock until the block ends, then release it."""
    done = threading.Event()
    heart = threading.Thread(target=_hold, args=(lock, done), daemon=True)
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        # Also a LockError: it ran out while this process was stopped.
        with suppress(RedisError):
            lock.release()


def _hold(lock: Any, done: threading.Event) -> None:  # noqa: ANN401
    """Renew a lock until told to stop; end this process if its worker or the lock is gone."""
    parent = os.getppid()
    while not done.wait(HEARTBEAT_S):
        with suppress(RedisError):
            if os.getppid() != parent or not _renewed(lock):
                # Nobody would hear of the result, and another worker takes over.
                os._exit(1)


def _renewed(lock: Any) -> bool:  # noqa: ANN401
    """Renew a lock, or take it again; returns False when another process has it.

    Redis forgets it when it loses its data, and when its clock is set forward.
    """
    try:
        lock.reacquire()
    except LockNotOwnedError:
        return bool(lock.acquire(blocking=False, token=lock.local.token))
    return True
