"""``biosegment models``."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biosegment.cli.console import console, folding_table
from biosegment.cli.loop import Name
from biosegment.cli.model_name import find_project
from biosegment.errors import ProjectBusyError, QueueError
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import LoopOptions, Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from ml_backend.jobs import JobQueue
    from ml_backend.model_card import ModelCard


def models(
    project: Name,
    add: Annotated[
        Path | None, typer.Option(help="A model package to start from: its network serves at once.")
    ] = None,
) -> None:
    """List the trained versions of a project, or give it a model that was trained elsewhere."""
    from ml_backend.model_registry import ModelRegistry

    settings = Settings.from_env(connection(os.environ))
    registry = ModelRegistry.of(settings)
    if add is not None:
        _add(project, add, settings)
        return
    project_id = find_project(project, settings, registry)
    cards = registry.cards(project_id)
    if not cards:
        console.print("The project has no trained model yet.")
        return

    from ml_backend.live_quality import live_qualities

    measured = {each.version: each.mean for each in live_qualities(cards)}
    current = registry.current(project_id)
    # A version's name tells when it was made.
    table = folding_table("version", "labels", "live IoU", "trained from", "")
    for card in cards:
        table.add_row(
            card.version,
            str(card.labels),
            str(measured.get(card.version) or "not measured"),
            _origin(card),
            "serves" if card.version == current else "",
        )
    console.print(table)


def _origin(card: "ModelCard") -> str:
    if card.imported is not None:
        return f"a package: {card.imported['labels']} labels of {card.imported['version']}"
    return card.parent or "random weights"


def _add(title: str, package: Path, settings: Settings) -> None:
    """Add a package's network to a project while no worker is at it, and ask for a turn."""
    from ml_backend.jobs import JobQueue, connect
    from ml_backend.model_import import add_package
    from ml_backend.model_registry import ModelRegistry

    with LabelStudioClient(settings) as client:
        found = client.find_project(title)
        options = client.loop_options(found["id"]) or LoopOptions()
    classes = LabelMap.from_config(found["label_config"]).names
    jobs = JobQueue(connect(settings, timeout_s=5))
    has_queue = _answers(jobs)
    with jobs.exclusive(found["id"]) if has_queue else nullcontext(True) as alone:
        if not alone:
            raise ProjectBusyError(found["title"])
        registry = ModelRegistry.of(settings)
        version = add_package(package, found["id"], classes, options.strategy, registry)
    follow = "the next annotation brings its masks: the job queue does not answer"
    if has_queue:
        jobs.request_turn(found["id"])
        follow = "its masks and the order of the queue follow, `biosegment status` shows it"
    console.print(
        f"Version {version} serves the project {found['title']!r}; {follow}.",
        markup=False,
        soft_wrap=True,
    )


def _answers(jobs: "JobQueue") -> bool:
    try:
        jobs.job_ids()
    except QueueError:
        # Without it, no worker can be at the project either.
        return False
    return True
