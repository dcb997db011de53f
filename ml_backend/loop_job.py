"""What a worker may be asked to do: the jobs of this package, and nothing else that Redis holds.

A job names the function that is called, and may name others for when it has ended. Whoever can
write to Redis could have any function of any package called so, with arguments of their choice.
"""

import logging
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from redis import Redis
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import Serializer

logger = logging.getLogger(__name__)

FUNCTIONS: Final[Mapping[str, tuple[type, ...]]] = {
    "ml_backend.jobs.turn": (int, bool),
    "ml_backend.tuning_job.tune": (int, int, bool),
    "ml_backend.segmentation_job.segment": (dict,),
}
"""Functions that a job may name, and the types of their arguments."""
MAX_PACKED_BYTES: Final = 2**16
"""A larger call is refused before it is unpacked, to a thousand times its size perhaps."""
_PACKED: Final = (b"data", b"exc_info")
_CALLBACKS: Final = ("_success_callback_name", "_failure_callback_name", "_stopped_callback_name")
_UNREADABLE: Final = (
    *(DeserializationError, AttributeError, LookupError, TypeError, ValueError),
    *(OverflowError, RecursionError, zlib.error),
)


class LoopJob(Job):
    """A job that calls one of `FUNCTIONS`; to workers and pages, any other does not exist."""

    def restore(self, raw_data: Any) -> None:  # noqa: ANN401 (RQ's)
        """Take what Redis holds of this job.

        Raises
        ------
        NoSuchJobError
            When it is none of ours. The log says so.
        """
        try:
            if any(len(raw_data.get(field, b"")) > MAX_PACKED_BYTES for field in _PACKED):
                raise ValueError("it is too large")
            super().restore(raw_data)
            reason = _refusal(self)
        except _UNREADABLE as exc:
            reason = f"it cannot be read ({type(exc).__name__})"
        if reason:
            logger.error("refused a job in Redis that is none of ours, %r: %s", self.id, reason)
            raise NoSuchJobError(f"The job {self.id!r} is refused: {reason}.")

    @classmethod
    def fetch_many(
        cls,
        job_ids: Iterable[str],
        connection: Redis,
        serializer: Serializer | str | None = None,
    ) -> list[Job | None]:
        """Return jobs by their ids, None for one that does not exist."""
        return [cls._fetched(job_id, connection, serializer) for job_id in job_ids]

    @classmethod
    def _fetched(
        cls, job_id: str, connection: Redis, serializer: Serializer | str | None
    ) -> Job | None:
        try:
            return cls.fetch(job_id, connection, serializer)
        except NoSuchJobError:
            return None


def _refusal(job: Job) -> str | None:
    """Return why a job is none of ours; None if it is."""
    types = FUNCTIONS.get(str(job.func_name))
    if types is None:
        return f"it calls {str(job.func_name)[:100]!r}"
    if job.instance is not None or any(getattr(job, name) for name in _CALLBACKS):
        return "it names more than one function"
    args = list(job.args)
    # Not isinstance: True is an int.
    if job.kwargs or [type(argument) for argument in args] != list(types):
        return f"it has other arguments than {job.func_name} takes"
    if any(argument < 0 for argument in args if type(argument) is int):
        return "it has a number below 0"
    return None
