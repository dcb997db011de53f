"""How many annotators an installation serves: ``python -m benchmarks.annotators``.

Simulates the queue event by event, with durations that were measured (docs/benchmarks.md). Each
annotator opens a tile, for which the backend predicts a mask, paints, submits, and opens the next.
A submission asks for a turn of its project: at most one runs and one waits, workers take the turns
of all projects in the order in which they were asked for, and a turn trains when enough annotations
are new; the more are new, the longer. Tells how long it takes until an annotation is in the model
that serves, how busy the workers are, and how long a prediction waits for the backend.
"""

import argparse
import heapq
import math
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from biosegment.settings import LoopOptions
from ml_backend.training import TrainingSpec

MAX_GROWTH = TrainingSpec(classes=()).max_growth


@dataclass(frozen=True, slots=True)
class Durations:
    """What everything takes, in seconds."""

    paint: float
    """An annotator, from the open tile to the submission; the mean of a lognormal distribution."""
    read: float = 2.0
    """A turn, to read what is annotated; all of a turn that does not train."""
    train: float = 34.5
    """A training on as many new annotations as start one."""
    publish: float = 2.8
    """Scoring and publishing after it."""
    webhook: float = 0.0033
    """The backend, for a webhook."""
    predict: float = 0.05
    """The backend, for the mask of one tile."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is simulated."""

    annotators: int
    projects: int
    workers: int
    retrain_every: int = LoopOptions().retrain_every


@dataclass(slots=True)
class Result:
    """What came of it."""

    waits_s: list[float] = field(default_factory=list)
    """From each submission until it was in the model that serves."""
    predict_waits_s: list[float] = field(default_factory=list)
    """Of each prediction, for the backend to begin."""
    busy_s: float = 0.0
    """Time that workers were at work, all together."""


class Simulation:
    """The events of some hours, in order.

    Parameters
    ----------
    installation
        Who works on what.
    durations
        What everything takes.
    seed
        Of all chance.
    """

    def __init__(self, installation: Installation, durations: Durations, seed: int) -> None:
        self.result = Result()
        self.now = 0.0
        self._here = installation
        self._takes = durations
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._backend_free_s = 0.0
        self._idle = installation.workers
        self._queue: deque[int] = deque()
        self._running: set[int] = set()
        self._again: set[int] = set()
        self._new: dict[int, list[float]] = defaultdict(list)

    def run(self, hours: float) -> Result:
        """Return what happened in so many hours, of which the first tenth does not count."""
        for number in range(self._here.annotators):
            project = number % self._here.projects
            self._after(self._rng.uniform(0, self._takes.paint), lambda p=project: self._open(p))
        end = 3600 * hours
        warm = 0.1 * end
        while self._events and self._events[0][0] < end:
            before = self.now
            self.now, _, happens = heapq.heappop(self._events)
            if before < warm <= self.now:
                self.result = Result()
            happens()
        return self.result

    def _after(self, seconds: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happens))

    def _ask_backend(self, seconds: float) -> float:
        """Return how long a request waits, one being answered after the other."""
        begins = max(self.now, self._backend_free_s)
        self._backend_free_s = begins + seconds
        return begins - self.now

    def _open(self, project: int) -> None:
        wait = self._ask_backend(self._takes.predict)
        self.result.predict_waits_s.append(wait)
        paint = self._rng.lognormvariate(math.log(self._takes.paint) - 0.125, 0.5)
        self._after(wait + self._takes.predict + paint, lambda: self._submit(project))

    def _submit(self, project: int) -> None:
        self._new[project].append(self.now)
        wait = self._ask_backend(self._takes.webhook)
        self._after(wait + self._takes.webhook, lambda: self._request_turn(project))
        self._open(project)

    def _request_turn(self, project: int) -> None:
        if project not in self._queue:
            self._queue.append(project)
            self._dispatch()

    def _dispatch(self) -> None:
        while self._idle and self._queue:
            project = self._queue.popleft()
            if project in self._running:
                self._again.add(project)
                continue
            self._idle -= 1
            self._running.add(project)
            new = len(self._new[project])
            trained = new if new >= self._here.retrain_every else 0
            seconds = self._turn_s(trained)
            self.result.busy_s += seconds
            self._after(seconds, lambda p=project, n=trained: self._finish(p, n))

    def _turn_s(self, trained: int) -> float:
        seconds = self._takes.read
        if trained:
            growth = min(trained / self._here.retrain_every, MAX_GROWTH)
            seconds += growth * self._takes.train + self._takes.publish
        return seconds * self._rng.lognormvariate(-0.02, 0.2)

    def _finish(self, project: int, trained: int) -> None:
        learned, self._new[project] = self._new[project][:trained], self._new[project][trained:]
        self.result.waits_s += [self.now - submitted for submitted in learned]
        self._running.remove(project)
        self._idle += 1
        if project in self._again:
            self._again.remove(project)
            self._request_turn(project)
        self._dispatch()


def row(here: Installation, durations: Durations, hours: float, seed: int) -> str:
    """Return a line of the table."""
    result = Simulation(here, durations, seed).run(hours)
    median, high = np.percentile(result.waits_s, [50, 95]) if result.waits_s else (np.nan, np.nan)
    predict = np.percentile(result.predict_waits_s, 99) * 1000
    busy = min(1.0, result.busy_s / (0.9 * 3600 * hours * here.workers))
    return (
        f"| {here.annotators:,} | {here.projects:,} | {here.workers} | {_time(median)} | "
        f"{_time(high)} | {busy:.0%} | {predict:.0f} ms |"
    )


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "never"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def sizes(annotators: int, team: int, workers: Sequence[int]) -> list[Installation]:
    """Return installations of so many annotators, a team a project, with ever more workers."""
    projects = math.ceil(annotators / team)
    return [Installation(annotators, projects, each) for each in workers if each <= projects]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    measured = Durations(0)
    parser.add_argument("--annotators", default="1,10,100,1000")
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--team", type=int, default=5, help="annotators a project")
    parser.add_argument("--paint", type=float, default=60.0, help="seconds a tile")
    parser.add_argument("--train", type=float, default=measured.train, help="seconds")
    parser.add_argument("--publish", type=float, default=measured.publish, help="seconds")
    parser.add_argument("--predict", type=float, default=measured.predict, help="seconds")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    durations = Durations(
        options.paint, train=options.train, publish=options.publish, predict=options.predict
    )
    print(
        "| annotators | projects | workers | in the model: median | 95 % | workers busy | ", end=""
    )
    print("predict waits, 99 % |\n|---|---|---|---|---|---|---|")
    workers = [int(each) for each in options.workers.split(",")]
    for annotators in map(int, options.annotators.split(",")):
        for here in sizes(annotators, options.team, workers):
            print(row(here, durations, options.hours, options.seed), flush=True)


if __name__ == "__main__":
    main()
