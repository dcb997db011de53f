"""``biosegment status``, ``train`` and ``effort``: what the status page and its buttons do."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biosegment.cli.console import console, folding_table
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from ml_backend.status import Activity

Name = Annotated[str, typer.Argument(help="Title or number of a Label Studio project.")]


def status() -> None:
    """Show every connected project: its model, its labels, and what the worker is doing."""
    from ml_backend.jobs import JobQueue, connect
    from ml_backend.model_registry import ModelRegistry
    from ml_backend.project_facts import ProjectFacts
    from ml_backend.status import failures, overview

    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        jobs = JobQueue(connect(settings, timeout_s=5))
        projects, problems = overview(ProjectFacts(client), ModelRegistry.of(settings), jobs)
    failed = failures(jobs)
    table = folding_table("project", "labelled", "model", "live IoU", "work")
    for each in projects:
        table.add_row(
            f"{each.project['title']} (number {each.project['id']})",
            f"{each.project.get('num_tasks_with_annotations', '?')} of "
            f"{each.project.get('task_number', '?')}",
            each.card.version if each.card else "none yet",
            str(each.live.mean) if each.live and each.live.mean else "not measured yet",
            _work(each.activity),
        )
    console.print(table)
    titles = {each.project["id"]: each.project["title"] for each in projects}
    for failure in failed:
        title = titles.get(failure.project_id, f"project {failure.project_id}")
        line = f"{title}: {failure.work} failed: {failure.reason}"
        console.print(line, soft_wrap=True, markup=False)
    for each in projects:
        whole = each.segmentation
        volume = whole.sentence if whole and not whole.activity.reason else ""
        for sentence in filter(None, (each.advice, volume)):
            line = f"{each.project['title']}: {sentence}"
            console.print(line, soft_wrap=True, markup=False)
    for problem in problems:
        console.print(problem)
    if problems:
        raise typer.Exit(1)


def _work(activity: "Activity | None") -> str:
    if activity is None:
        return "idle"
    return "failed, see below" if activity.reason else activity.sentence


def train(project: Name) -> None:
    """Start a training of a project now, however few annotations are new."""
    from ml_backend.jobs import JobQueue, connect

    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        found = client.find_project(project)
    JobQueue(connect(settings, timeout_s=5)).request_turn(found["id"], force=True)
    console.print(f"Training of {found['title']!r} is queued; `biosegment status` shows it.")


def effort(
    project: Name,
    out: Annotated[Path | None, typer.Option(help="CSV file to write instead.")] = None,
) -> None:
    """Print what each annotation of a project cost, and what it kept of the prediction (CSV)."""
    from ml_backend.effort import effort_csv
    from ml_backend.model_registry import ModelRegistry

    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        found = client.find_project(project)
    table = effort_csv(found["id"], ModelRegistry.of(settings).cards(found["id"]))
    if out is None:
        sys.stdout.write(table)
    else:
        out.write_text(table)
