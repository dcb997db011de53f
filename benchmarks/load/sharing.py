"""Many projects on one worker: who waits how long, and whether a busy one starves the others."""

import threading
import time
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from benchmarks.load.served import LABEL, make_volume, new_stack, tiles, time_status_page
from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import task_data
from biosegment.settings import LoopOptions, Settings
from biosegment.supervisor import running
from ml_backend.model_registry import ModelRegistry

SHAPE = (2, 128, 128)
OPTIONS = LoopOptions("random", retrain_every=2, training_effort=0.01)
TIMEOUT_S = 3600.0


class Greedy(threading.Thread):
    """Presses Start Training of one project again and again."""

    def __init__(self, settings: Settings, project_id: int) -> None:
        super().__init__(daemon=True)
        self._stopped = threading.Event()
        self._settings = settings
        self._event = {"action": "START_TRAINING", "project": {"id": project_id}}

    def run(self) -> None:
        """Press it until stopped."""
        headers = authorization_header(self._settings)
        with httpx.Client(base_url=self._settings.backend_url, headers=headers) as client:
            while not self._stopped.wait(0.1):
                client.post("/webhook", json=self._event).raise_for_status()

    def stop(self) -> None:
        """Let go."""
        self._stopped.set()
        self.join()


def measure(folder: Path, *, projects: int) -> None:
    """Print how long each project waits for its training while one asks for more and more."""
    stack = new_stack(folder, OPTIONS)
    make_volume(stack.settings.data_root, SHAPE)
    data = [task_data(each, context=0, depth=SHAPE[0]) for each in tiles(SHAPE, 32, 6)]
    registry = ModelRegistry(stack.settings.data_root)
    with (
        running(stack, partial(print, flush=True)),
        LabelStudioClient(stack.settings) as client,
    ):
        numbers = []
        for each in range(projects):
            number = client.create_project(f"Project {each}", labelling_config([LABEL]))["id"]
            client.create_tasks(number, data)
            client.connect_backend(number, OPTIONS)
            numbers.append(number)
        print(f"{projects} projects made", flush=True)
        first, *others = numbers
        asked: dict[int, float] = {}
        served: dict[int, float] = {}
        _annotate(client, first)
        while registry.current(first) is None:
            time.sleep(0.1)
        greedy = Greedy(stack.settings, first)
        greedy.start()
        began, before = time.monotonic(), len(registry.cards(first))
        for number in others:
            _annotate(client, number)
            asked[number] = time.monotonic()
        while len(served) < len(others) and time.monotonic() - began < TIMEOUT_S:
            for number in others:
                if number not in served and registry.current(number):
                    served[number] = time.monotonic()
            time.sleep(0.1)
        greedy.stop()
        time_status_page(stack.settings)
        trainings = len(registry.cards(first)) - before
    waits = [served[number] - asked[number] for number in served]
    order = sorted(served, key=lambda number: served[number])
    moved = max(abs(order.index(each) - others.index(each)) for each in order)
    median, high, longest = np.percentile(waits, [50, 95, 100])
    seconds = max(served.values()) - began
    print(f"{len(served)} of {len(others)} projects got their version in {seconds:.0f} s,")
    print(
        f"after waits of {median:.0f} s (median), {high:.0f} s (95 %), {longest:.0f} s (longest),"
    )
    print(f"in the order of asking but for {moved} places; the greedy one got {trainings}")


def _annotate(client: LabelStudioClient, number: int) -> None:
    for task in client.tasks(number)[: OPTIONS.retrain_every]:
        client.annotate(task["id"], [], 1.0)
