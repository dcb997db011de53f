"""What must hold after every fault, and whether the loop has found its way back to it."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import psutil

from benchmarks.soak.stage import OPTIONS, WORKER, WORKERS, Stage
from biosegment.errors import BioSegmentError
from ml_backend.annotated_pool import submitted
from ml_backend.queue_names import queue_name

EVERY_S: Final = 0.1
TRAINING_TIMEOUT_S: Final = 180.0


class Observer(threading.Thread):
    """Watches which processes train which project: each holds the log of its run open."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self.overlaps: list[str] = []
        self.looks = 0
        self._logs = f"{stage.stack.settings.data_root / 'logs'}/"
        self._stage = stage
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stopped.wait(EVERY_S):
            trainers: dict[str, set[int]] = {}
            with suppress(psutil.Error, OSError, ValueError):
                for pid in self._stage.pids(WORKER):
                    for project in self._trained_by(pid):
                        trainers.setdefault(project, set()).add(pid)
            self.looks += 1
            for project, pids in trainers.items():
                if len(pids) > 1:
                    self.overlaps.append(f"project {project} is trained by {sorted(pids)}")

    def _trained_by(self, pid: int) -> Iterator[str]:
        with suppress(OSError):
            for each in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    target = os.readlink(each.path)
                    if target.startswith(self._logs):
                        yield target.removeprefix(self._logs).partition("/")[0]

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self.join()


def annotations_of(stage: Stage, project_id: int) -> dict[str, tuple[str, int]]:
    """Return annotation id -> when it was last changed, and its task, of all submitted ones."""
    return {
        str(each["id"]): (each["updated_at"], task["id"])
        for task in stage.client.annotated_tasks(project_id)
        for each in submitted(task)
    }


def unhealed(stage: Stage) -> str:
    """Return what is not as it should be while nobody labels; empty when all is well."""
    if stage.known_workers() < WORKERS:
        return "not every worker is known to be there"
    for project_id in stage.projects:
        try:
            reason = _unhealed(stage, project_id)
        except BioSegmentError as exc:
            reason = str(exc)
        if reason:
            return f"project {project_id}: {reason}"
    return ""


def _unhealed(stage: Stage, project_id: int) -> str:
    if stage.running(project_id) or stage.jobs.turn_waits():
        return "a turn runs or waits"
    version = stage.registry.current(project_id)
    if version is None:
        return "no version"
    card = stage.registry.card(project_id, version)
    seen = {**card.annotations, **card.left_out}
    found = annotations_of(stage, project_id)
    new = sum(seen.get(each) != changed for each, (changed, _) in found.items())
    if new >= OPTIONS.retrain_every:
        return f"{new} annotations are new to the model"
    queue = queue_name(version, OPTIONS.strategy)
    unlabelled = _unlabelled(stage, project_id)
    served = stage.client.project(project_id)["model_version"]
    # A version that finds all tasks labelled has no queue to order.
    if unlabelled and served != queue:
        return f"{served} serves instead of {queue}"
    missing = unlabelled - stage.client.predicted_tasks(project_id, queue)
    return f"{len(missing)} tasks have no prediction of {queue}" if missing else ""


def _unlabelled(stage: Stage, project_id: int) -> set[int]:
    return {task["id"] for task in stage.client.tasks(project_id) if not task["is_labeled"]}


def violations(stage: Stage) -> list[str]:
    """Train every project once more, and return what of the promises does not hold then."""
    found = []
    for project_id in stage.projects:
        try:
            found += [f"project {project_id}: {each}" for each in _violations(stage, project_id)]
        except BioSegmentError as exc:
            found.append(f"project {project_id}: {exc}")
    return found


def _violations(stage: Stage, project_id: int) -> Iterator[str]:
    before = stage.registry.current(project_id)
    stage.jobs.request_turn(project_id, force=True)
    trained = stage.wait(
        lambda: stage.registry.current(project_id) != before and not _unhealed(stage, project_id),
        TRAINING_TIMEOUT_S,
    )
    if not trained:
        yield f"no training in {TRAINING_TIMEOUT_S:.0f} s: {_unhealed(stage, project_id)}"
        return
    version = stage.registry.current(project_id)
    assert version is not None
    # Reads the weights and compares their checksum.
    _, card = stage.registry.load(project_id, version)
    known = {**card.annotations, **card.left_out}
    there = annotations_of(stage, project_id)
    lost, gone = there.keys() - known.keys(), known.keys() - there.keys()
    if lost or gone:
        yield f"{version} misses annotations {sorted(lost)} and has {sorted(gone)} of nowhere"
    stale = [each for each in there.keys() & known.keys() if known[each] != there[each][0]]
    if stale:
        yield f"{version} has old states of annotations {sorted(stale)}"
    tasks = {task for each, (_, task) in there.items() if each in card.annotations}
    if card.labels != len(tasks):
        yield f"{version} learned from {card.labels} tiles of {len(tasks)} tasks"
    queue = queue_name(version, OPTIONS.strategy)
    counts = stage.client._json("GET", f"api/projects/{project_id}/model-versions/")
    predicted = len(stage.client.predicted_tasks(project_id, queue))
    if counts.get(queue, 0) != predicted:
        yield f"{counts.get(queue, 0)} predictions order {predicted} tasks"
