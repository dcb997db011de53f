"""Experts who paint, correct, skip and delete, each with an account of their own."""

import random
import threading
from collections import Counter
from typing import Final

import numpy as np

from benchmarks.soak.stage import Stage
from biosegment.errors import BioSegmentError
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import Json, annotation_regions, tile_of

ACTIONS: Final = {"submit": 80, "correct": 10, "skip": 5, "delete": 5}
"""What an expert does next, in percent."""


class Annotator(threading.Thread):
    """One expert, who works while `working` is set."""

    def __init__(self, stage: Stage, number: int, seed: int, working: threading.Event) -> None:
        super().__init__(daemon=True, name=f"annotator-{number}")
        self.done: Counter[str] = Counter()
        self._stage = stage
        self._client = stage.annotator(self.name)
        self._rng = random.Random(f"{seed}-{number}")
        self._working = working
        self._mine: list[tuple[int, int, int]] = []
        self._stopped = threading.Event()
        self.idle = threading.Event()

    def run(self) -> None:
        """Act until told to stop; what Label Studio refuses or does not answer is let go."""
        while not self._stopped.wait(self._rng.uniform(0.5, 2.0)):
            if not self._working.is_set():
                self.idle.set()
                continue
            self.idle.clear()
            [action] = self._rng.choices(list(ACTIONS), list(ACTIONS.values()))
            project_id = self._rng.choice(self._stage.projects)
            try:
                self._act(action, project_id)
            except BioSegmentError:
                self.done["refused"] += 1

    def stop(self) -> None:
        """Finish what is being done."""
        self._stopped.set()
        self.join()
        self._client.close()

    def _act(self, action: str, project_id: int) -> None:
        known = [each for each in self._mine if each[0] == project_id]
        if action in {"correct", "delete"} and known:
            chosen = self._rng.choice(known)
            self._change(action, *chosen)
            if action == "delete":
                self._mine.remove(chosen)
        else:
            action = "skip" if action == "skip" else "submit"
            task = self._client.next_task(project_id)
            if task is None:
                return
            made = self._submit(project_id, task, skipped=action == "skip")
            if action == "submit":
                self._mine.append((project_id, task["id"], made["id"]))
        self.done[action] += 1

    def _submit(self, project_id: int, task: Json, *, skipped: bool) -> Json:
        regions = [] if skipped else self._regions(project_id, task)
        path, body = f"api/tasks/{task['id']}/annotations/", {"result": regions, "lead_time": 1.0}
        made: Json = self._client._json("POST", path, json=body | {"was_cancelled": skipped})
        return made

    def _change(self, action: str, project_id: int, task_id: int, annotation_id: int) -> None:
        path = f"api/annotations/{annotation_id}/"
        if action == "delete":
            self._client._request("DELETE", path)
            return
        task = self._client._json("GET", f"api/tasks/{task_id}/")
        body = {"result": self._regions(project_id, task)}
        self._client._request("PATCH", path, json=body)

    def _regions(self, project_id: int, task: Json) -> list[Json]:
        """Return what this expert paints: the truth, and now and then with a class of late."""
        label_map = LabelMap.from_config(self._client.project(project_id)["label_config"])
        mask = self._stage.truths[project_id][tile_of(task).roi.slices][0]
        if len(label_map.names) > 3 and self._rng.random() < 0.3:
            mask = np.where(mask == 2, 3, mask).astype(np.uint8)
        return annotation_regions([mask], label_map)


class Crew:
    """All annotators, who can be sent to a break together."""

    def __init__(self, stage: Stage, count: int, seed: int) -> None:
        self._working = threading.Event()
        self._members = [Annotator(stage, number, seed, self._working) for number in range(count)]
        for member in self._members:
            member.start()

    def work(self) -> None:
        """Let them work."""
        self._working.set()

    def rest(self) -> None:
        """Return once all have put down their brush."""
        self._working.clear()
        for member in self._members:
            member.idle.clear()
        for member in self._members:
            member.idle.wait(120)

    def stop(self) -> None:
        """Send them home."""
        for member in self._members:
            member.stop()

    @property
    def done(self) -> Counter[str]:
        """How often each thing was done by anybody."""
        return sum((member.done for member in self._members), Counter())
