"""``biosegment tune``: a search for a better training recipe, on a worker."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biosegment.cli.console import console, folding_table
from biosegment.cli.loop import Name
from biosegment.cli.watch import watch
from biosegment.errors import NoWorkerError, SettingsError, TuningError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ml_backend.tuning import Outcome


def tune(
    project: Name,
    trials: Annotated[int, typer.Option(min=2, help="Recipes to try, the one in use first.")] = 20,
    apply: Annotated[
        bool, typer.Option("--apply", help="Train by the best recipe from now on, if recommended.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Return to the default recipe; nothing is searched.")
    ] = False,
) -> None:
    """Search a better training recipe for a project on its labels; never needed, may take hours.

    A worker does it, and gives way to the loop. The same command shows a search that goes on, or
    takes up one that was interrupted.
    """
    from ml_backend.jobs import JobQueue, connect
    from ml_backend.model_registry import ModelRegistry

    if apply and reset:
        raise SettingsError("--apply", "and --reset exclude each other")
    settings = Settings.from_env(connection(os.environ))
    with LabelStudioClient(settings) as client:
        found = client.find_project(project)
    registry = ModelRegistry.of(settings)
    if reset:
        registry.set_recipe(found["id"], None)
        console.print(f"{found['title']!r} is trained by the default recipe from now on.")
        return
    jobs = JobQueue(connect(settings, timeout_s=5))
    if not jobs.has_worker():
        raise NoWorkerError(jobs.address)
    job_id = jobs.request_tuning(found["id"], trials)
    result = watch(jobs, job_id, lambda reason: TuningError(found["title"], reason), _best)

    from ml_backend.tuning import Outcome

    outcome = Outcome.from_json(result["outcome"])
    _show(outcome, result["report"])
    if apply and outcome.recommended:
        registry.set_recipe(found["id"], outcome.found.best.recipe)
        console.print("It is used from the next training on; `--reset` returns to the default.")


def _best(facts: "Mapping[str, Any]") -> str:
    best = facts.get("best_iou")
    return "" if best is None else f"best IoU {best:.3f}"


def _show(outcome: "Outcome", report: str) -> None:
    from ml_backend.tuning_report import rows, verdict

    comparison = outcome.confirmed or outcome.found
    table = folding_table(
        "", "recipe in use", "best recipe", caption="± is the standard deviation over folds"
    )
    for row in rows(comparison):
        table.add_row(*row)
    console.print(table)
    console.print(verdict(outcome))
    console.print(f"Report: {report}", soft_wrap=True)
