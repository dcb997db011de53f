"""The job that segments a whole volume on a worker, and gives way to the loop."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from rq import get_current_job

from biosegment.errors import QueueError
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from ml_backend.hardware import on_free_cores
from ml_backend.job_report import JobReport
from ml_backend.jobs import JobQueue, connect
from ml_backend.model_registry import ModelRegistry
from ml_backend.segmentation import Segmentation, SegmentationPlan


@dataclass(frozen=True, slots=True)
class Order:
    """A segmentation that somebody asked for."""

    volume: str
    """Name of the volume in the data root."""
    name: str
    """Of the label image."""
    plan: SegmentationPlan
    """Which model, and how."""
    overwrite: bool = False
    """Replace finished labels of that name."""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return what was ordered by `dataclasses.asdict` of it."""
        return cls(**fields | {"plan": SegmentationPlan(**fields["plan"])})


def segment(fields: dict[str, Any]) -> dict[str, Any]:
    """Segment a volume: the job that the queue names.

    A turn of the loop never waits for longer than one unit of work, a part of a slice or 16 planes
    along y or x: the segmentation then puts itself at the end of the queue.

    Parameters
    ----------
    fields
        Of an `Order`.

    Returns
    -------
    dict
        ``goes_on_as``, the id of the job that goes on, or ``labels``, the name of what was made.
    """
    order = Order.from_json(fields)
    settings = Settings.from_env()
    jobs = JobQueue(connect(settings))
    report = JobReport(get_current_job())
    report.note(volume=order.volume, labels=order.name)
    store = VolumeStore.open(settings.data_root, order.volume)
    segmentation = Segmentation(store, ModelRegistry.of(settings), order.plan)

    def progress(done: int, total: int) -> None:
        report("segmenting", done, total)

    def pause() -> bool:
        # Redis may be away for a moment: nothing of a segmentation depends on it.
        with suppress(QueueError):
            return jobs.turn_waits()
        return False

    with segmentation.begin(order.name, overwrite=order.overwrite) as labels:
        finished = segmentation.run(labels, on_free_cores(progress), pause)
    if not finished:
        return {"goes_on_as": jobs.continue_segmentation(asdict(order))}
    report("done", 1, 1)
    return {"labels": order.name}
