"""``biosegment status`` and ``biosegment train``: what the status page and its button do."""

import os
from typing import Annotated

import typer
from rich.table import Table

from biosegment.cli.console import console
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from biosegment.stack import connection

Name = Annotated[str, typer.Argument(help="Title or number of a Label Studio project.")]


def status() -> None:
    """Show every connected project: its model, its labels, and what the worker is doing."""
    from ml_backend.jobs import JobQueue, connect
    from ml_backend.model_registry import ModelRegistry
    from ml_backend.status import overview

    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        jobs = JobQueue(connect(settings, timeout_s=5))
        projects, problems = overview(client, ModelRegistry(settings.data_root), jobs)
    table = Table("project", "labelled", "model", "held-out IoU", "work")
    for each in projects:
        iou = each.card.metrics["mean_iou"] if each.card else None
        table.add_row(
            f"{each.project['title']} (number {each.project['id']})",
            f"{each.project.get('num_tasks_with_annotations', '?')} of "
            f"{each.project.get('task_number', '?')}",
            each.card.version if each.card else "none yet",
            "not measured yet" if iou is None else f"{iou:.3f}",
            each.activity.sentence if each.activity else "idle",
        )
    console.print(table)
    for problem in problems:
        console.print(problem)
    if problems:
        raise typer.Exit(1)


def train(project: Name) -> None:
    """Start a training of a project now, however few annotations are new."""
    from ml_backend.jobs import JobQueue, connect

    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        found = client.find_project(project)
    JobQueue(connect(settings, timeout_s=5)).request_turn(found["id"], force=True)
    console.print(f"Training of {found['title']!r} is queued; `biosegment status` shows it.")
