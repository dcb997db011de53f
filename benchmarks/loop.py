"""Time from the k-th submitted annotation to the new order of the queue, and of webhooks meanwhile.

    python -m benchmarks.loop [--tiles 500] [--rounds 3]

Starts the whole stack (Label Studio with SQLite, Redis, gunicorn, one worker) on an empty folder,
imports a synthetic stack, and labels with its ground truth. Webhooks are sent at a steady rate
while the worker trains. The first round trains from scratch, the later ones fine-tune.
"""

import argparse
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from benchmarks.ports import free_port
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import prediction_regions, tile_of
from biosegment.progress import ignore
from biosegment.settings import LoopOptions, Settings
from biosegment.stack import Stack, prepare
from biosegment.store import VolumeStore
from biosegment.supervisor import running
from importers.convert import import_labels
from importers.pool import PoolPlan
from importers.project import ImportedProject, ProjectPlan, import_project
from importers.samples import write_synthetic
from ml_backend.jobs import JobQueue, connect

LABEL = "mitochondria"
RETRAIN_EVERY = 10
WEBHOOKS_PER_S = 10


class Webhooks(threading.Thread):
    """Sends webhooks until stopped, and notes how long each answer takes."""

    def __init__(self, settings: Settings, project_id: int) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self._stopped = threading.Event()
        self._settings = settings
        self._event = {"action": "ANNOTATION_CREATED", "project": {"id": project_id}}

    def run(self) -> None:
        """Send one after the other."""
        headers = authorization_header(self._settings)
        with httpx.Client(base_url=self._settings.backend_url, headers=headers) as client:
            while not self._stopped.wait(1 / WEBHOOKS_PER_S):
                began = time.perf_counter()
                client.post("/webhook", json=self._event).raise_for_status()
                self.seconds.append(time.perf_counter() - began)

    def stop(self) -> None:
        """Wait for the last answer."""
        self._stopped.set()
        self.join()


def label(client: LabelStudioClient, project_id: int, store: VolumeStore, count: int) -> None:
    """Submit ground truth for the tasks that are served next."""
    label_map = LabelMap.from_config(client.project(project_id)["label_config"])
    for _ in range(count):
        task = client.next_task(project_id)
        assert task is not None
        mask = store.read_labels("truth", tile_of(task).roi)[0]
        regions = prediction_regions([mask], label_map.names, label_map)
        client.annotate(task["id"], regions, lead_time_s=1.0)


def measure(stack: Stack, imported: ImportedProject, rounds: int) -> None:
    """Print one line a round."""
    project_id = imported.project_id
    store = VolumeStore.open(stack.settings.data_root, imported.store.name)
    jobs = JobQueue(connect(stack.settings))
    print(f"{'round':>5} {'labels':>7} {'submit to order':>16}   stages of the turn")
    latencies: list[float] = []
    with LabelStudioClient(stack.settings) as client:
        for number in range(1, rounds + 1):
            before = client.project(project_id)["model_version"]
            label(client, project_id, store, RETRAIN_EVERY)
            webhooks = Webhooks(stack.settings, project_id)
            webhooks.start()
            began = time.perf_counter()
            running_job = None
            while client.project(project_id)["model_version"] == before:
                running_job = jobs.running(project_id) or running_job
                time.sleep(0.2)
            total = time.perf_counter() - began
            webhooks.stop()
            latencies += webhooks.seconds
            seconds = running_job.get_meta().get("seconds", {}) if running_job else {}
            stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())
            print(f"{number:>5} {number * RETRAIN_EVERY:>7} {total:>14.1f} s   {stages}")
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    print(f"webhook while training: {len(latencies)} sent, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiles", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="biosegment-bench-") as folder:
        options = LoopOptions(retrain_every=RETRAIN_EVERY)
        stack = prepare(
            Settings(data_root=Path(folder) / "data", loop=options), free_port(), free_port()
        )
        sample = write_synthetic(Path(folder), shape=(10, 512, 512))
        pool = PoolPlan(tile_px=128, draw="random", count=arguments.tiles)
        plan = ProjectPlan("Bench", [LABEL], "synthetic", pool=pool)
        with running(stack, partial(print, flush=True)):
            quiet = partial(lambda *_: None)
            imported = import_project(sample.raw, plan, stack.settings, quiet)
            assert sample.labels is not None
            import_labels(sample.labels, imported.store, "truth", [LABEL], ignore)
            measure(stack, imported, arguments.rounds)


if __name__ == "__main__":
    main()
