"""The order in which the unlabelled tasks of a project are worth labelling."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import TaskError
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import Json, shown_tiles, tile_of
from biosegment.progress import Progress, Report
from biosegment.settings import LoopOptions
from biosegment.spacing import places
from biosegment.tiles import Tile
from ml_backend.pixels import TaskImages
from ml_backend.predictions import MIN_AREA_PX, Model
from ml_backend.predictor import class_mask
from ml_backend.queue_names import queue_name
from ml_backend.strategies import Pool, TileView, strategy_named
from ml_backend.strategies.base import FEATURES, PROBS

logger = logging.getLogger(__name__)


PRELABELLED: Final = 2000
"""Tasks at the head of the queue that get predicted masks with their scores.

Label Studio asks for no prediction of a task that has one of the serving version already, so a
task with a score and no mask opens empty. A project sees a new version long before its experts
have labelled as many."""


def rank(
    pool: Sequence[Json],
    labelled: Sequence[Json],
    model: Model,
    images: TaskImages,
    label_map: LabelMap,
    options: LoopOptions,
    report: Report,
) -> list[Json]:
    """Return a prediction for every task of a pool, in the order in which to serve them.

    Parameters
    ----------
    pool
        Unlabelled tasks. One whose image cannot be read comes last, with a line in the log.
    labelled
        Labelled tasks, read if the strategy asks for them.
    model
        Predicts the masks and what the strategy looks at.
    images
        Where pixels come from.
    label_map
        Of the project's labelling configuration.
    options
        Name the strategy that gives the scores, and how many tasks are labelled before the next
        training.
    report
        Told of stages and progress.

    Returns
    -------
    list of dict
        ``task``, ``score`` (float, lowest first), ``model_version`` (the name of the queue), and
        ``result``: brush regions for the first `PRELABELLED` tasks, empty beyond.
    """
    chosen = strategy_named(options.strategy)
    unreadable: set[int] = set()
    masks: dict[int, list[NDArray[np.uint8]]] = {}
    # One pass is enough where the strategy looks at the very slices that get masks.
    one_pass = bool(chosen.needs) and (
        len(pool) <= PRELABELLED and all("slices" not in task["data"] for task in pool)
    )
    needs = chosen.needs | PROBS if one_pass else chosen.needs
    # Every version has a seed of its own, and a repeated turn the same.
    seed = len(model.card.annotations)

    def views() -> Iterator[TileView]:
        targets = _targets(pool, images, unreadable, partial(report, "scoring"))
        for task, view in zip(pool, model.views(targets, needs, seed), strict=True):
            if one_pass:
                masks[task["id"]] = [class_mask(view.probs, MIN_AREA_PX)]
            yield view

    def labelled_features() -> Iterator[NDArray[np.float32]]:
        targets = _readable(labelled, images, partial(report, "reading labelled tiles"))
        for view in model.views(targets, FEATURES):
            yield view.features

    seen = Pool(
        len(pool),
        views(),
        labelled_features(),
        places(map(_tile, pool), images.voxel_size),
        options.retrain_every,
    )
    scores = chosen.score(seen, np.random.default_rng(seed))
    order = np.argsort(scores, kind="stable").tolist()
    if not one_pass:
        head = [pool[i] for i in order[:PRELABELLED]]
        masks = _shown_masks(head, model, images, unreadable, partial(report, "predicting"))
    queue = queue_name(model.version, options.strategy)
    readable = [i for i in order if pool[i]["id"] not in unreadable]
    ranked = [
        {
            "task": pool[i]["id"],
            "score": float(scores[i]),
            "model_version": queue,
            "result": model.regions(masks.get(pool[i]["id"], []), label_map),
        }
        for i in readable
    ]
    last = {"score": 1.0, "model_version": queue, "result": []}
    return ranked + [{"task": task_id} | last for task_id in sorted(unreadable)]


def _targets(
    pool: Sequence[Json], images: TaskImages, unreadable: set[int], progress: Progress
) -> Iterator[NDArray[np.float32]]:
    """Yield the target image of each task; black where it cannot be read, and its id is noted."""
    for done, task in enumerate(pool, start=1):
        try:
            yield images.target(task)
        except TaskError as exc:
            logger.warning("last in the queue: %s", exc)
            unreadable.add(task["id"])
            yield np.zeros((16, 16), np.float32)
        progress(done, len(pool))


def _readable(
    tasks: Sequence[Json], images: TaskImages, progress: Progress
) -> Iterator[NDArray[np.float32]]:
    """Yield the target image of each task that has one."""
    for done, task in enumerate(tasks, start=1):
        with suppress(TaskError):
            yield images.target(task)
        progress(done, len(tasks))


def _tile(task: Json) -> Tile | None:
    try:
        return tile_of(task)
    except TaskError:
        return None


def _shown_masks(
    tasks: Sequence[Json],
    model: Model,
    images: TaskImages,
    unreadable: set[int],
    progress: Progress,
) -> dict[int, list[NDArray[np.uint8]]]:
    """Return the predicted masks of all slices that each task shows."""
    masks: dict[int, list[NDArray[np.uint8]]] = {}
    for done, task in enumerate(tasks, start=1):
        try:
            shown = [images.read(task, tile) for tile in shown_tiles(task)]
        except TaskError as exc:
            logger.warning("last in the queue: %s", exc)
            unreadable.add(task["id"])
        else:
            probs = model.probabilities(iter(shown))
            masks[task["id"]] = [class_mask(each, MIN_AREA_PX) for each in probs]
        progress(done, len(tasks))
    return masks
