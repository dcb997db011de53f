"""What a job tells of itself while it runs, and what is left of one that failed."""

import time
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError
from rq.exceptions import AbandonedJobError
from rq.job import Job

REPORT_S: Final = 0.5
STEADY_S: Final = 5.0
"""A stage that has lasted so long tells how long it will last."""


class JobReport:
    """Keeps a job's progress, its time left and the seconds of each stage where others see them."""

    def __init__(self, job: Job | None) -> None:
        self._job = job
        self._stage = ""
        self._stage_began = self._saved = time.monotonic()
        self._done_before = 0
        self._seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note how far a stage is; written to Redis when it begins and twice a second."""
        moment = time.monotonic()
        if stage != self._stage:
            spent = moment - self._stage_began
            self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + spent
            # A job may go on where another one stopped.
            self._stage, self._stage_began, self._done_before = stage, moment, done
        elif moment - self._saved < REPORT_S:
            return
        self._saved = moment
        seconds = {name: round(spent, 2) for name, spent in self._seconds.items() if name}
        left_s = self._left_s(moment, done, total)
        self.note(stage=stage, done=done, total=total, seconds=seconds, left_s=left_s)

    def _left_s(self, moment: float, done: int, total: int) -> float | None:
        """Return how long the stage still takes if it goes on as it did; None while it is new."""
        spent, progress = moment - self._stage_began, done - self._done_before
        if spent < STEADY_S or progress <= 0:
            return None
        return round(spent / progress * (total - done), 1)

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
