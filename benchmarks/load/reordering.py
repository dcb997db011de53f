"""A project of many tasks: how long a new order takes, and where the time goes."""

import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.load.served import (
    LABEL,
    make_volume,
    new_stack,
    serve_model,
    tiles,
    time_status_page,
)
from biosegment.labels import labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import task_data
from biosegment.settings import LoopOptions
from biosegment.supervisor import running
from ml_backend.jobs import JobQueue, connect
from ml_backend.model_registry import ModelRegistry
from ml_backend.status import failure_reason

SHAPE = (28, 512, 512)
TILE_PX = 32


def measure(folder: Path, *, tasks: int, strategies: list[str]) -> None:
    """Print how long tasks take to make and to order, by each strategy in turn."""
    stack = new_stack(folder, LoopOptions(strategies[0], retrain_every=10))
    make_volume(stack.settings.data_root, SHAPE)
    data = [task_data(each, context=0, depth=SHAPE[0]) for each in tiles(SHAPE, TILE_PX, tasks)]
    with (
        running(stack, partial(print, flush=True)),
        LabelStudioClient(stack.settings) as client,
    ):
        jobs = JobQueue(connect(stack.settings))
        number = client.create_project("Many tasks", labelling_config([LABEL]))["id"]
        began = time.monotonic()
        client.create_tasks(number, data)
        print(f"{tasks:,} tasks of {TILE_PX} px made in {time.monotonic() - began:.0f} s")
        version = serve_model(stack.settings.data_root, number, "no strategy yet")
        registry = ModelRegistry(stack.settings.data_root)
        print("| strategy | until the new order | stages of the turn |\n|---|---|---|")
        for strategy in strategies:
            client.connect_backend(number, LoopOptions(strategy, retrain_every=10))
            began = time.monotonic()
            job = jobs.job(jobs.request_turn(number))
            # Not by asking Label Studio, which counts all tasks for an answer.
            while registry.ranked_by(number, version) != strategy:
                job = jobs.running(number) or job
                if job is None or job.is_failed:
                    reason = failure_reason(job) if job else "the job queue lost the turn"
                    sys.exit(f"Error: no order by {strategy}: {reason}")
                time.sleep(0.5)
            took_s = time.monotonic() - began
            assert job is not None
            # The last stage is counted when the next one begins.
            while not (job.is_finished or job.is_failed):
                time.sleep(0.5)
            seconds = job.get_meta()["seconds"]
            stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())
            print(f"| {strategy} | {took_s:.0f} s | {stages} |", flush=True)
        time_status_page(stack.settings)
