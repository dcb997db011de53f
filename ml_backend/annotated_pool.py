"""What the annotators of a project have said so far, as tiles to learn from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biosegment.errors import TaskError
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import Json, annotated_masks
from biosegment.progress import Progress
from biosegment.tiles import Tile
from ml_backend.dataset import LabelledTile
from ml_backend.pixels import TaskImages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedTask:
    """A task and what all its annotations together say of its slices."""

    task: Json
    """With its ``annotations``."""
    tiles: dict[Tile, LabelledTile]
    """Each slice that somebody labelled."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedPool:
    """Every usable annotation of a project."""

    annotations: dict[str, str]
    """Annotation id -> when it was last changed, of every usable submitted annotation."""
    left_out: dict[str, str]
    """The same of those that cannot be used."""
    tasks: list[AnnotatedTask]
    """Those with usable annotations."""
    lead_time_s: float
    """Time the annotators spent, in seconds."""

    @property
    def tiles(self) -> list[LabelledTile]:
        """All tiles to learn from."""
        return [tile for each in self.tasks for tile in each.tiles.values()]


def annotated_pool(
    tasks: Sequence[Json], images: TaskImages, label_map: LabelMap, progress: Progress
) -> AnnotatedPool:
    """Read the tiles of annotated tasks; those that cannot be used are logged and left out.

    Parameters
    ----------
    tasks
        With their ``annotations``.
    images
        Where pixels come from.
    label_map
        Of the project's labelling configuration.
    progress
        Counts tasks.
    """
    pool = AnnotatedPool({}, {}, [], sum(map(_lead_time_s, tasks)))
    for done, task in enumerate(tasks):
        progress(done, len(tasks))
        ids = {str(each["id"]): each["updated_at"] for each in submitted(task)}
        try:
            tiles = {
                tile: LabelledTile(images.read(task, tile), mask)
                for tile, mask in annotated_masks(task, label_map).items()
            }
        except TaskError as exc:
            logger.warning("left out of training: %s", exc)
            pool.left_out.update(ids)
            continue
        pool.tasks.append(AnnotatedTask(task, tiles))
        pool.annotations.update(ids)
    return pool


def submitted(task: Mapping[str, Any]) -> list[Json]:
    """Return a task's annotations without the skipped ones."""
    return [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]


def _lead_time_s(task: Mapping[str, Any]) -> float:
    return float(np.sum([a.get("lead_time") or 0.0 for a in submitted(task)]))
