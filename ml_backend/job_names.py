"""What a job's id tells: ``turn-3-…``, ``turn-3-forced-…``, ``tune-3-…``, ``segment-3-DIGEST-…``.

The rest is a random number, different for each job. So jobs can be counted, and found by their
project, without reading each of them.
"""

import hashlib
import json
from typing import Final

from biosegment.labelstudio.payloads import Json

KINDS: Final = ("turn", "tune", "segment")
OTHER: Final = "other"


def turn_prefix(project_id: int, *, force: bool = False) -> str:
    """Return what the ids of a project's turns begin with."""
    return f"turn-{project_id}-{'forced-' if force else ''}"


def tuning_prefix(project_id: int) -> str:
    """Return what the ids of the searches for a project's recipe begin with."""
    return f"tune-{project_id}-"


def segmentation_prefix(order: Json) -> str:
    """Return what the ids of the jobs of an order begin with, and those of no other order."""
    digest = hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
    return f"segment-{order['plan']['project_id']}-{digest}-"


def kind_of(job_id: str) -> str:
    """Return ``turn``, ``tune`` or ``segment``; ``other`` for jobs that are none of ours."""
    kind = job_id.partition("-")[0]
    return kind if kind in KINDS else OTHER


def project_of(job_id: str) -> int | None:
    """Return the number of the project that a job is for."""
    number = job_id.split("-")[1] if kind_of(job_id) in KINDS and "-" in job_id else ""
    return int(number) if number.isascii() and number.isdecimal() else None


def work_of(job_id: str) -> str:
    """Return the same for all jobs that do the same work: a turn of a project, an order, …."""
    return job_id.rpartition("-")[0].removesuffix("-forced")
