"""Many annotators at one backend: how long its answers take, and whether its memory stays."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.load.served import LABEL, answers, make_volume, new_stack, only, serve_model, tiles
from biosegment.labels import labelling_config
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import Json, task_data
from biosegment.settings import LoopOptions, Settings

SHAPE = (4, 512, 512)
PROJECTS = 5
TIMEOUT_S = 100.0
"""Label Studio's for a prediction."""


@dataclass(slots=True)
class Answers:
    """What one kind of request met."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0


class Annotator(threading.Thread):
    """Asks as Label Studio does when an expert opens a tile and submits it."""

    def __init__(self, number: int, project_id: int, settings: Settings, tasks: list[Json]) -> None:
        super().__init__(daemon=True)
        self.answers = {each: Answers() for each in ("health", "setup", "predict", "webhook")}
        self.tiles = 0
        self._project_id = project_id
        self._tasks = tasks
        self._rng = random.Random(number)
        self._url, self._headers = settings.backend_url, authorization_header(settings)

    def work(self, count: int, think_s: float) -> None:
        """Label so many tiles, when started."""
        self._count, self._think_s = count, think_s
        self.start()

    def run(self) -> None:
        """Label tiles."""
        config, project = labelling_config([LABEL]), f"{self._project_id}.1700000000"
        event = {"action": "ANNOTATION_CREATED", "project": {"id": self._project_id}}
        with httpx.Client(
            base_url=self._url, headers=self._headers, timeout=TIMEOUT_S
        ) as self._http:
            for _ in range(self._count):
                task = self._rng.choice(self._tasks)
                self._ask("health", "GET", None)
                self._ask("setup", "POST", {"project": project, "schema": config})
                body = {"tasks": [task], "project": project, "label_config": config, "params": {}}
                self._ask("predict", "POST", body)
                time.sleep(self._rng.uniform(0, 2 * self._think_s))
                self._ask("webhook", "POST", event)
                self.tiles += 1

    def _ask(self, name: str, method: str, body: Json | None) -> None:
        began = time.perf_counter()
        try:
            failed = not self._http.request(method, f"/{name}", json=body).is_success
        except httpx.HTTPError:
            failed = True
        self.answers[name].seconds.append(time.perf_counter() - began)
        self.answers[name].errors += failed


def memory_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process and its children, MB."""
    every = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in every) / 2**20


def measure(folder: Path, *, annotators: int, each: int, tile: int, think_s: float) -> None:
    """Print how the backend does."""
    stack = new_stack(folder, LoopOptions())
    make_volume(stack.settings.data_root, SHAPE)
    for number in range(1, PROJECTS + 1):
        serve_model(stack.settings.data_root, number, "entropy")
    data = [task_data(shown, context=0, depth=SHAPE[0]) for shown in tiles(SHAPE, tile, 64)]
    tasks = [{"id": number, "data": values} for number, values in enumerate(data, start=1)]
    crew = [Annotator(n, n % PROJECTS + 1, stack.settings, tasks) for n in range(annotators)]
    with only(stack, "redis", "backend") as processes:
        while not answers(stack.settings.backend_url):
            time.sleep(0.2)
        began = time.monotonic()
        for member in crew:
            member.work(each, think_s)
        memory = _watch(crew, annotators * each, processes["backend"])
        seconds = time.monotonic() - began
    _print(crew, seconds, memory)


def _watch(crew: list[Annotator], tiles: int, backend: psutil.Process) -> list[float]:
    """Return the backend's memory after each tenth of the work."""
    found: list[float] = []
    while any(member.is_alive() for member in crew):
        done = sum(member.tiles for member in crew)
        while len(found) < 10 and done >= (len(found) + 1) * tiles / 10:
            found.append(memory_mb(backend))
        time.sleep(0.2)
    return found if len(found) == 10 else [*found, memory_mb(backend)]


def _print(crew: list[Annotator], seconds: float, memory: list[float]) -> None:
    tiles = sum(member.tiles for member in crew)
    print(f"{len(crew)} annotators, {tiles} tiles in {seconds:.0f} s")
    print("| request | sent | errors | median | 99 % | longest |\n|---|---|---|---|---|---|")
    for name in crew[0].answers:
        times = [each for member in crew for each in member.answers[name].seconds]
        errors = sum(member.answers[name].errors for member in crew)
        median, high, longest = 1000 * np.percentile(times, [50, 99, 100])
        row = f"| {name} | {len(times):,} | {errors} | {median:.1f} ms | {high:.1f} ms |"
        print(f"{row} {longest:.0f} ms |")
    tenths = ", ".join(f"{each:.0f}" for each in memory)
    print(f"memory of the backend after each tenth of the tiles, MB: {tenths}")
