"""What Label Studio tells of each project for the status page, which is asked for all the time.

A question takes Label Studio 50 ms, half a second in a project of 100,000 tasks. So the head of a
queue is asked for when the counts of its project change; beyond that, all that is known is asked
for anew after a while, a few projects at a time.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from biosegment.errors import SettingsError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, project_counts
from biosegment.settings import LoopOptions

HEAD: Final = 5
"""Tasks of a queue that are shown."""
STALE_S: Final = 30.0
"""What was asked for longer ago is asked for anew."""
AT_A_TIME: Final = 5
"""Projects that are asked for anew in one go, beginning with the longest ago."""
THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What is shown of a project that Label Studio tells for itself only."""

    counts: Json
    """`project_counts` when the head was asked for."""
    head: list[Json]
    """Tasks served next: ``id``, ``data``, ``predictions_score``."""
    options: LoopOptions | None
    """How its loop runs; None where Label Studio does not tell."""
    asked_s: float
    """When all of it was asked for, on the monotonic clock."""


class ProjectFacts:
    """Asks Label Studio, and remembers.

    Parameters
    ----------
    client
        Of the Label Studio to ask.
    """

    def __init__(self, client: LabelStudioClient) -> None:
        self.client = client
        self._known: dict[int, Facts] = {}

    def of(self, projects: Sequence[Json]) -> list[Facts]:
        """Return the facts of each project.

        Parameters
        ----------
        projects
            As `LabelStudioClient.projects` returns them.

        Raises
        ------
        LabelStudioError
            When it does not answer.
        """
        known = (self._known.get(project["id"]) for project in projects)
        asked_s = sorted(facts.asked_s for facts in known if facts)
        before_s = time.monotonic() - STALE_S
        stale_s = max((each for each in asked_s[:AT_A_TIME] if each < before_s), default=-math.inf)
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda project: self._ask(project, stale_s), projects))

    def forget(self, project_id: int) -> None:
        """Ask for everything of a project the next time."""
        self._known.pop(project_id, None)

    def _ask(self, project: Json, stale_s: float) -> Facts:
        """Return the facts of a project, asked for anew if they are as old as `stale_s`."""
        number, counts = project["id"], project_counts(project)
        known = self._known.get(number)
        if known is None or known.asked_s <= stale_s:
            asked_s, options = time.monotonic(), self._options(number)
            found = Facts(counts, self._head(project), options, asked_s)
        elif known.counts != counts:
            found = replace(known, counts=counts, head=self._head(project))
        else:
            return known
        self._known[number] = found
        return found

    def _head(self, project: Json) -> list[Json]:
        # Label Studio fails to order no tasks.
        return self.client.head_of_queue(project["id"], HEAD) if project["task_number"] else []

    def _options(self, project_id: int) -> LoopOptions | None:
        # Somebody may have typed them in Label Studio; the turn that fails says what is wrong.
        with suppress(SettingsError):
            return self.client.loop_options(project_id)
        return None
