"""The job that searches a project's recipe on a worker, and gives way to the loop."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rq import get_current_job

from biosegment.errors import QueueError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from ml_backend.hardware import on_free_cores
from ml_backend.job_report import JobReport
from ml_backend.jobs import JobQueue, connect
from ml_backend.loop import Loop
from ml_backend.tuning import Search, prepare
from ml_backend.tuning_data import TuningData
from ml_backend.tuning_report import write_report


def tune(project_id: int, trials: int, goes_on: bool) -> dict[str, Any]:
    """Search a better recipe for a project: the job that the queue names.

    A turn of the loop never waits for longer than one training: the search then puts itself at the
    end of the queue.

    Parameters
    ----------
    project_id
        Number of the project in Label Studio.
    trials
        Recipes that are tried in all.
    goes_on
        Whether it stays with the annotations that an earlier job began with.

    Returns
    -------
    dict
        ``goes_on_as``, the id of the job that goes on; or ``outcome``, the fields of
        `ml_backend.tuning.Outcome`, and ``report``, the path of the report.
    """
    settings = Settings.from_env()
    jobs = JobQueue(connect(settings))
    folder = tuning_folder(settings.data_root, project_id)
    report = JobReport(get_current_job())
    with jobs.exclusive_tuning(project_id):
        # Another worker may have begun it, and have its folder on another disk.
        if not goes_on or not folder.exists():
            with LabelStudioClient(settings) as client:
                prepare(folder, Loop(settings, client).tuning_data(project_id, report))
        search = Search(folder, TuningData.load(folder))

        def progress(stage: str, done: int, total: int) -> None:
            report.note(best_iou=search.best_iou)
            report(stage, done, total)

        def pause() -> bool:
            # Redis may be away for a moment: nothing of a search depends on it.
            with suppress(QueueError):
                return jobs.turn_waits()
            return False

        outcome = search.run(trials, on_free_cores(progress), pause)
        if outcome is None:
            return {"goes_on_as": jobs.continue_tuning(project_id, trials)}
        path = write_report(folder, search, outcome)
    report("done", 1, 1)
    return {"outcome": asdict(outcome), "report": str(path)}


def tuning_folder(data_root: Path, project_id: int) -> Path:
    """Return where the search of a project and its report lie."""
    return data_root / "tuning" / str(project_id)
