"""What the status page shows: for every connected project its model, its jobs and its queue."""

from dataclasses import dataclass
from typing import Final

from rq.job import Job, JobStatus

from biosegment.errors import LabelStudioError, QueueError
from biosegment.labelstudio.payloads import Json
from biosegment.settings import LoopOptions
from ml_backend.job_names import kind_of, project_of
from ml_backend.job_report import failure_trace, is_abandoned
from ml_backend.jobs import JobQueue
from ml_backend.live_quality import LiveQuality, advice, live_qualities
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.project_facts import Facts, ProjectFacts

WORK: Final = {
    "turn": "training and ranking",
    "tune": "the search for a recipe",
    "segment": "the segmentation of {volume}",
}
"""What jobs do, by their kind."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What the latest job of a project is doing."""

    state: str
    """``queued``, ``started``, ``finished`` or ``failed``."""
    stage: str
    """What it is at, in words."""
    percent: int
    """How much of the stage is done."""
    left_s: float | None
    """How long the stage still takes, about; None where that is not known."""
    reason: str
    """Why it failed, in one sentence."""

    @property
    def sentence(self) -> str:
        """What it is doing, in words."""
        match self.state:
            case "started":
                left = "" if self.left_s is None else f", {time_left(self.left_s)} left"
                return f"{self.stage or 'starting'}, {self.percent} %{left}"
            case "queued":
                return self.stage or "waiting for a worker"
            case "failed":
                return f"failed: {self.reason}"
            case _:
                return "idle"


@dataclass(frozen=True, slots=True)
class SegmentationStatus:
    """The segmentation of a whole volume."""

    volume: str
    """Name of the volume."""
    labels: str
    """Name of the labels that are made."""
    activity: Activity
    """What its job is doing."""

    @property
    def sentence(self) -> str:
        """How far it is, in words."""
        is_done = self.activity.state == "finished"
        return f"{self.volume}: {f'{self.labels} is done' if is_done else self.activity.sentence}"


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """One project on the status page."""

    project: Json
    """``id``, ``title``, ``task_number``, ``num_tasks_with_annotations``, ``model_version``."""
    card: ModelCard | None
    """The serving version."""
    versions: int
    """Number of versions."""
    live: LiveQuality | None
    """How the last version that was tested did."""
    advice: str
    """What the last rounds brought, in words; empty while that is not known."""
    activity: Activity | None
    """The latest job; None when there was none for a week."""
    head: list[Json]
    """Tasks served next: ``id``, ``data``, ``predictions_score``."""
    options: LoopOptions | None
    """How its loop runs; None where Label Studio does not tell."""
    segmentation: SegmentationStatus | None
    """The segmentation by one of its models that was asked for last; None if long ago."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed, and whose work nobody has asked for again."""

    job_id: str
    """Of the job."""
    project_id: int | None
    """Number of its project in Label Studio."""
    work: str
    """What it was to do, in words."""
    reason: str
    """Why it failed, in one sentence."""


def failures(jobs: JobQueue) -> list[Failure]:
    """Return the work that failed, latest first; none when Redis does not answer."""
    try:
        found = [jobs.job(job_id) for job_id in jobs.job_ids()["failed"]]
        ours = [job for job in found if job and kind_of(job.id) in WORK]
        ours.sort(key=lambda job: str(job.ended_at or job.enqueued_at), reverse=True)
        return [_failure(job) for job in ours]
    except QueueError:
        return []


def _failure(job: Job) -> Failure:
    kind = kind_of(job.id)
    work = WORK[kind].format(**job.args[0]) if kind == "segment" else WORK[kind]
    return Failure(job.id, project_of(job.id), work, failure_reason(job))


def overview(
    facts: ProjectFacts, registry: ModelRegistry, jobs: JobQueue
) -> tuple[list[ProjectStatus], list[str]]:
    """Return the connected projects, and a sentence for each service that does not answer."""
    problems: list[str] = []
    told: list[Facts | None]
    try:
        connected = set(facts.client.connected_projects())
        projects = [p for p in facts.client.projects() if p["id"] in connected]
        told = [*facts.of(projects)]
    except LabelStudioError as exc:
        problems.append(str(exc))
        projects = [_unknown(project_id) for project_id in registry.projects()]
        told = [None for _ in projects]
    activities: dict[int, Activity | None] = {}
    segmentations: dict[int, SegmentationStatus | None] = {}
    try:
        activities = {p["id"]: _activity(jobs, p["id"]) for p in projects}
        segmentations = {p["id"]: _segmentation(jobs, p["id"]) for p in projects}
    except QueueError as exc:
        problems.append(str(exc))
    statuses = []
    for project, fact in zip(projects, told, strict=True):
        cards = registry.cards(project["id"])
        version = registry.current(project["id"])
        card = next((card for card in cards if card.version == version), None)
        activity = activities.get(project["id"])
        qualities = live_qualities(cards)
        live = qualities[-1] if qualities else None
        statuses.append(
            ProjectStatus(
                project,
                card,
                len(cards),
                live,
                advice(qualities),
                activity,
                fact.head if fact else [],
                fact.options if fact else None,
                segmentations.get(project["id"]),
            )
        )
    return statuses, problems


def _unknown(project_id: int) -> Json:
    return {"id": project_id, "title": f"project {project_id}"}


def _activity(jobs: JobQueue, project_id: int) -> Activity | None:
    job = jobs.running(project_id) or jobs.latest(project_id)
    return None if job is None else _activity_of(job)


def _segmentation(jobs: JobQueue, project_id: int) -> SegmentationStatus | None:
    job = jobs.latest_segmentation(project_id)
    if job is None:
        return None
    order = job.args[0]
    return SegmentationStatus(order["volume"], order["name"], _activity_of(job))


def _activity_of(job: Job) -> Activity:
    meta = job.get_meta()
    total = meta.get("total") or 1
    return Activity(
        state=job.get_status().value,
        stage=str(meta.get("stage", "")),
        percent=round(100 * meta.get("done", 0) / total),
        left_s=meta.get("left_s"),
        reason=failure_reason(job),
    )


def time_left(seconds: float) -> str:
    """Return a time in words, as exact as a forecast is."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 100 else f"about {round(minutes / 60)} h"


def failure_reason(job: Job) -> str:
    """Return why a job failed, in one sentence; empty when it did not."""
    if job.get_status() != JobStatus.FAILED:
        return ""
    last_line = failure_trace(job).strip().rpartition("\n")[2]
    if not last_line or is_abandoned(job):
        again = "another turn follows" if kind_of(job.id) == "turn" else "try again to go on"
        return f"The worker died; {again}."
    kind, _, sentence = last_line.partition(": ")
    return sentence if kind.startswith("biosegment.") else last_line
