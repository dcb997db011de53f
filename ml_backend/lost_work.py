"""Finds work that was lost: with Redis, with a worker, or with a webhook that found nobody.

A turn leaves behind how it found its project. Where the project is otherwise now, another turn is
due. Counts of all projects come with one request; what takes one for each project, such as the time
of the last correction, is looked at for a few of them at a time.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from rq.job import Job, JobStatus
from rq.utils import now

from biosegment.errors import SettingsError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, project_counts, project_state
from ml_backend.job_report import is_abandoned
from ml_backend.jobs import JobQueue

RETRY_AFTER_S: Final = 60
"""A project whose last turn failed is left alone this long, unless something new happens."""
CLOSELY_S: Final = 3.0
"""How long projects are looked at closely before jobs go on; the others follow next time."""


class LostWork:
    """Asks for the turns that are due and that nobody asked for.

    Parameters
    ----------
    jobs
        The job queue.
    closely_s
        How long projects are looked at closely in one go, in seconds; always at least one is.
    """

    def __init__(self, jobs: JobQueue, closely_s: float = CLOSELY_S) -> None:
        self._jobs = jobs
        self._closely_s = closely_s
        self._last = -1

    def find(self, client: LabelStudioClient) -> None:
        """Ask for a turn of every connected project that is not as its last turn left it.

        Gives webhooks the backend's credentials, too, where Label Studio made them without.
        """
        began = time.monotonic()
        projects = {project["id"]: project for project in client.projects()}
        connected = [
            number for number in client.connected_projects(mend=True) if number in projects
        ]
        quiet = [number for number in connected if not self._jobs.running(number)]
        for number in quiet:
            self._ask_if_due(number, project_counts(projects[number]))
        following = [number for number in quiet if number > self._last]
        for number in following + quiet[: len(quiet) - len(following)]:
            wanted = project_state(projects[number], client.last_change(number))
            wanted["strategy"] = _strategy(client, number)
            self._ask_if_due(number, wanted)
            self._last = number
            if time.monotonic() - began > self._closely_s:
                return

    def _ask_if_due(self, project_id: int, wanted: Mapping[str, Any]) -> None:
        if _is_due(wanted, self._jobs.latest(project_id)):
            self._jobs.request_turn(project_id)


def _strategy(client: LabelStudioClient, project_id: int) -> str | None:
    # A turn that fails says what is wrong with the options of one project; the others go on.
    with suppress(SettingsError):
        options = client.loop_options(project_id)
        return options.strategy if options else None
    return None


def _is_due(wanted: Mapping[str, Any], latest: Job | None) -> bool:
    status = latest.get_status() if latest else None
    if latest is None or status in {JobStatus.QUEUED, JobStatus.STARTED}:
        return latest is None
    if status == JobStatus.FAILED:
        if is_abandoned(latest) or latest.ended_at is None:
            return True
        # In the future: the clock was set back since.
        return not 0 <= (now() - latest.ended_at).total_seconds() <= RETRY_AFTER_S
    left: Json = latest.return_value() or {}
    return any(left.get(key) != value for key, value in wanted.items())
