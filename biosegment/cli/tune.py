"""``biosegment tune``: a search for a better training recipe, on a worker."""

import os
import time
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from biosegment.cli.console import console
from biosegment.cli.loop import Name
from biosegment.errors import NoWorkerError, SettingsError, TuningError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rq.job import Job

    from biosegment.labelstudio.payloads import Json
    from ml_backend.jobs import JobQueue
    from ml_backend.tuning import Outcome

POLL_S: Final = 0.5
WITHOUT_WORKER_S: Final = 30
"""A worker that is restarted is away for less."""


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
    recipe_path = ModelRegistry(settings.data_root).recipe_path(found["id"])
    if reset:
        recipe_path.unlink(missing_ok=True)
        console.print(f"{found['title']!r} is trained by the default recipe from now on.")
        return
    jobs = JobQueue(connect(settings, timeout_s=5))
    if not jobs.has_worker():
        raise NoWorkerError(jobs.address)
    result = _watch(jobs, jobs.request_tuning(found["id"], trials), found)

    from ml_backend.tuning import Outcome

    outcome = Outcome.from_json(result["outcome"])
    _show(outcome, result["report"])
    if apply and outcome.recommended:
        outcome.found.best.recipe.write(recipe_path)
        console.print("It is used from the next training on; `--reset` returns to the default.")


def _watch(jobs: "JobQueue", job_id: str, project: "Json") -> "Mapping[str, Any]":
    """Show a bar until the search is over; return what its last job returned."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[best]}"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as bars:
            bar = bars.add_task("", total=None, best="")
            for job in _states(jobs, job_id, project):
                meta = job.get_meta()
                best = meta.get("best_iou")
                bars.update(
                    bar,
                    description=meta.get("stage", "waiting for a worker"),
                    completed=meta.get("done", 0),
                    total=meta.get("total"),
                    best="" if best is None else f"best IoU {best:.3f}",
                )
    except KeyboardInterrupt:
        console.print("The search goes on in the worker; the same command shows it again.")
        raise typer.Exit(1) from None
    return cast("Mapping[str, Any]", job.return_value())


def _states(jobs: "JobQueue", job_id: str, project: "Json") -> "Iterator[Job]":
    """Yield the search's job as it is, twice a second, until the last one is finished."""
    worker_seen = time.monotonic()
    while True:
        job = _job(jobs, job_id, project)
        if job.is_finished:
            following = (job.return_value() or {}).get("goes_on_as")
            if following is None:
                yield job
                return
            job_id = following
            continue
        yield job
        if jobs.has_worker():
            worker_seen = time.monotonic()
        elif time.monotonic() - worker_seen > WITHOUT_WORKER_S:
            raise NoWorkerError(jobs.address)
        time.sleep(POLL_S)


def _job(jobs: "JobQueue", job_id: str, project: "Json") -> "Job":
    """Return a job that has not failed."""
    from ml_backend.jobs import is_abandoned
    from ml_backend.status import failure_reason

    job = jobs.job(job_id)
    again = "the same command takes it up where it stopped"
    if job is None:
        raise TuningError(project["title"], f"the job queue lost it; {again}")
    if job.is_failed:
        died = f"the worker died; {again}"
        reason = died if is_abandoned(job) else failure_reason(job)
        raise TuningError(project["title"], reason)
    return job


def _show(outcome: "Outcome", report: str) -> None:
    from ml_backend.tuning_report import rows, verdict

    comparison = outcome.confirmed or outcome.found
    table = Table(
        "", "recipe in use", "best recipe", caption="± is the standard deviation over folds"
    )
    for row in rows(comparison):
        table.add_row(*row)
    console.print(table)
    console.print(verdict(outcome))
    console.print(f"Report: {report}", soft_wrap=True)
