"""Whether the worker on this machine is alive: ``python -m ml_backend.worker_health``.

Ends with an error when it is not; containers are asked so.
"""

import socket
import sys
from typing import Final

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker
from rq.serializers import JSONSerializer
from rq.utils import now

from biosegment.settings import Settings

SILENCE_S: Final = 120
"""A worker speaks up every 30 s at the latest, and more often in a job."""


def is_alive(settings: Settings) -> bool:
    """Return whether a worker of this machine has lately been heard of."""
    with Redis.from_url(settings.redis_url, socket_timeout=10) as connection:
        return any(
            worker.hostname == socket.gethostname()
            and worker.last_heartbeat is not None
            and (now() - worker.last_heartbeat).total_seconds() < SILENCE_S
            for worker in Worker.all(connection, serializer=JSONSerializer)
        )


def main() -> None:
    """End this process with a sentence when the worker is not alive."""
    try:
        alive = is_alive(Settings.from_env())
    except RedisError as exc:
        sys.exit(f"Error: Redis does not answer: {exc}")
    if not alive:
        sys.exit(f"Error: no worker on {socket.gethostname()} was heard of for {SILENCE_S} s.")


if __name__ == "__main__":
    main()
