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
from ml_backend.queue_names import queue_name
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
        version = serve_model(stack.settings.data_root, number, strategies[0])
        print("| strategy | until the new order | stages of the turn |\n|---|---|---|")
        for strategy in strategies:
            client.connect_backend(number, LoopOptions(strategy, retrain_every=10))
            began = time.monotonic()
            job_id = jobs.request_turn(number)
            # Not by asking Label Studio, which counts all tasks for an answer.
            while not ((job := jobs.job(job_id)) and (job.is_finished or job.is_failed)):
                time.sleep(1)
            took_s = time.monotonic() - began
            if client.project(number)["model_version"] != queue_name(version, strategy):
                sys.exit(f"Error: {strategy} gave no order: {failure_reason(job)}")
            seconds = job.get_meta()["seconds"]
            stages = ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items())
            print(f"| {strategy} | {took_s:.0f} s | {stages} |", flush=True)
        time_status_page(stack.settings)
