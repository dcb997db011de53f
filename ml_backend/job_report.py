"""What a job tells of itself while it runs, and what is left of one that failed."""

import time
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError
from rq.exceptions import AbandonedJobError
from rq.job import Job

REPORT_S: Final = 0.5


class JobReport:
    """Keeps a job's progress, and the seconds of every stage, where other processes see them."""

    def __init__(self, job: Job | None) -> None:
        self._job = job
        self._stage = ""
        self._stage_began = self._saved = time.monotonic()
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note how far a stage is; written to Redis when it begins and twice a second."""
        moment = time.monotonic()
        if stage != self._stage:
            spent = moment - self._stage_began
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + spent
            self._stage, self._stage_began = stage, moment
        elif moment - self._saved < REPORT_S:
            return
        self._saved = moment
        seconds = {name: round(spent, 2) for name, spent in self._seconds.items() if name}
        self.note(stage=stage, done=done, total=total, seconds=seconds)

    def note(self, **facts: Any) -> None:  # noqa: ANN401
        """Write facts to Redis beside the progress, at once."""
        if self._job is not None:
            self._job.meta.update(facts)
            with suppress(RedisError):
                self._job.save_meta()  # type: ignore[no-untyped-call]


def failure_trace(job: Job) -> str:
    """Return the traceback that a job ended with; empty when there is none."""
    result = job.latest_result()
    return (result.exc_string or "") if result else ""


def is_abandoned(job: Job) -> bool:
    """Return whether a job's worker died with it."""
    return AbandonedJobError.__name__ in failure_trace(job)
