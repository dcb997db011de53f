"""What became of all jobs, counted in Redis: each ran in a process that is gone since."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import AbandonedJobError
from rq.job import Job
from rq.utils import now

from ml_backend.job_names import kind_of

ENDED: Final = "biosegment:jobs-ended"
"""Hash ``KIND OUTCOME`` -> number of jobs."""
SECONDS: Final = "biosegment:jobs-seconds"
"""Hash ``KIND sum`` -> seconds, and ``KIND BOUND`` -> jobs that took longer than the bound before
and no longer than this one."""
BOUNDS_S: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long the jobs of a kind took."""

    cumulative: list[tuple[str, int]]
    """Jobs that took no longer than each bound (``"60"`` seconds, at last ``"+Inf"``)."""
    total_s: float
    """Seconds of all together."""


class JobTotals:
    """Counts jobs that ended.

    Parameters
    ----------
    connection
        To Redis. Nothing is counted while it is away; the counts are lost with its data.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def add(self, job: Job, outcome: str) -> None:
        """Count a job that ended just now, as ``finished`` or ``failed``."""
        began = job.started_at or now()
        seconds = max(0.0, (now() - began).total_seconds())
        kind = kind_of(job.id)
        bound = next((str(each) for each in BOUNDS_S if seconds <= each), "+Inf")
        with suppress(RedisError):
            pipeline = self._connection.pipeline()
            pipeline.hincrby(ENDED, f"{kind} {outcome}", 1)
            pipeline.hincrby(SECONDS, f"{kind} {bound}", 1)
            pipeline.hincrbyfloat(SECONDS, f"{kind} sum", seconds)
            pipeline.execute()  # type: ignore[no-untyped-call]

    def add_abandoned(self, job: Job, kind: type[BaseException], *_: object) -> None:
        """Count a job that RQ found without its worker; an exception handler of RQ."""
        if issubclass(kind, AbandonedJobError):
            with suppress(RedisError):
                self._connection.hincrby(ENDED, f"{kind_of(job.id)} abandoned", 1)

    def ended(self) -> dict[tuple[str, str], int]:
        """Return how many jobs ended, by kind and outcome; raises RedisError."""
        found = self._hash(ENDED)
        return {(kind, outcome): int(n) for (kind, outcome), n in found.items()}

    def durations(self) -> dict[str, Durations]:
        """Return how long finished and failed jobs took, by kind; raises RedisError."""
        found = self._hash(SECONDS)
        return {kind: _durations(kind, found) for kind in sorted({kind for kind, _ in found})}

    def _hash(self, key: str) -> dict[tuple[str, str], float]:
        fields = cast("Mapping[bytes, Any]", self._connection.hgetall(key))
        pairs = {tuple(field.decode().split(" ", 1)): float(n) for field, n in fields.items()}
        return cast("dict[tuple[str, str], float]", pairs)


def _durations(kind: str, found: Mapping[tuple[str, str], float]) -> Durations:
    count, cumulative = 0, []
    for bound in [*map(str, BOUNDS_S), "+Inf"]:
        count += int(found.get((kind, bound), 0))
        cumulative.append((bound, count))
    return Durations(cumulative, found.get((kind, "sum"), 0.0))
