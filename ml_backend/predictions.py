"""Predictions of a project's serving version, as Label Studio wants them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import TaskError
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import (
    UNTRAINED,
    Json,
    prediction_regions,
    shown_tiles,
    untrained_prediction,
)
from ml_backend.model_registry import ModelRegistry
from ml_backend.pixels import TaskImages
from ml_backend.predictor import Predictor, class_mask
from ml_backend.queue_names import queue_name
from ml_backend.strategies import Needs, TileView
from ml_backend.strategies.measures import confidence

logger = logging.getLogger(__name__)

MIN_AREA_PX: Final = 24
"""Predicted specks smaller than this are removed: nobody wants to erase them one by one."""
GROUP_PX: Final = 2**24
"""Pixels of several tasks that are in memory together."""
MAX_TASK_PX: Final = 2**28
"""Of one task, with all its slices."""
Shown: TypeAlias = dict[int, list[NDArray[np.float32]]]
"""Place of a task among those that were asked for -> its images."""


class Model:
    """A trained version, ready to predict."""

    def __init__(self, registry: ModelRegistry, project_id: int, version: str) -> None:
        network, self.card = registry.load(project_id, version)
        self.version = version
        self._predictor = Predictor(network)

    def probabilities(self, images: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yield class probabilities (float32, shape (C, H, W)) of each image."""
        return self._predictor.probabilities(images)

    def views(
        self, images: Iterator[NDArray[np.float32]], needs: Needs, seed: int = 0
    ) -> Iterator[TileView]:
        """Yield what a query strategy looks at of each image; `seed` is that of the dropout."""
        return self._predictor.views(images, needs, seed)

    def regions(self, masks: Sequence[NDArray[np.uint8]], label_map: LabelMap) -> list[Json]:
        """Return the brush regions of predicted class masks, one mask a shown slice."""
        return prediction_regions(masks, self.card.class_names, label_map)


def mask_predictor(
    registry: ModelRegistry, project_id: int, label_map: LabelMap
) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.uint8]]] | None:
    """Return what proposes a project's masks by the model that serves; None if there is none.

    It takes images, float32 (H, W) in [0, 1], and returns class integers of `label_map`, uint8 (H,
    W), without specks. A class that the configuration no longer has is background.

    Raises
    ------
    ModelDamagedError
        If the model cannot be loaded.
    """
    version = registry.current(project_id)
    if version is None:
        return None
    model = Model(registry, project_id, version)
    names = model.card.class_names
    classes = np.array(
        [label_map.index(name) if name in label_map.names else 0 for name in names], np.uint8
    )

    def predict(images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
        probs = model.probabilities(iter(images))
        return [classes[class_mask(each, MIN_AREA_PX)] for each in probs]

    return predict


class PredictionService:
    """Answers ``/predict``; shared by the threads of the web process.

    Parameters
    ----------
    registry
        Asked for the serving version at every request: a worker may have promoted a new one.
    images
        Where pixels come from.
    """

    def __init__(self, registry: ModelRegistry, images: TaskImages) -> None:
        self._registry = registry
        self._images = images
        # A version never changes, so a loaded one stays right; four projects stay in memory.
        self._load = lru_cache(maxsize=4)(self._load_model)

    def queue(self, project_id: int) -> str:
        """Return the name of the queue that serves, `UNTRAINED` when there is no version."""
        version = self._registry.current(project_id)
        return UNTRAINED if version is None else self._queue(project_id, version)

    def _queue(self, project_id: int, version: str) -> str:
        return queue_name(version, self._registry.ranked_by(project_id, version))

    def predict(
        self, project_id: int, tasks: Sequence[Mapping[str, Any]], label_map: LabelMap
    ) -> list[Json | list[Json]]:
        """Return one prediction a task, in order.

        A task whose image cannot be read gets an empty list (no prediction) and a line in the
        log; before there is a model, all get an empty result and a neutral score.

        Raises
        ------
        TaskError
            When no image of any task can be read.
        """
        version = self._registry.current(project_id)
        if version is None:
            return [untrained_prediction() for _ in tasks]
        model = self._load(project_id, version)
        queue = self._queue(project_id, version)
        answers: list[Json | list[Json]] = [[] for _ in tasks]
        failure: TaskError | None = None
        waiting: Shown = {}
        for position, task in enumerate(tasks):
            try:
                waiting[position] = self._images_of(task)
            except TaskError as exc:
                logger.warning("project %d: %s", project_id, exc)
                failure = exc
            # Computed together as long as memory allows.
            full = sum(image.size for shown in waiting.values() for image in shown) >= GROUP_PX
            if full or position == len(tasks) - 1:
                for answered, regions, score in _predicted(model, waiting, label_map):
                    answers[answered] = {"result": regions, "score": score, "model_version": queue}
                waiting = {}
        if failure and not any(answers):
            raise failure
        return answers

    def _images_of(self, task: Mapping[str, Any]) -> list[NDArray[np.float32]]:
        tiles = shown_tiles(task)
        pixels = sum(tile.height * tile.width for tile in tiles)
        if pixels > MAX_TASK_PX:
            reason = f"its {len(tiles)} slices have {pixels} px, more than {MAX_TASK_PX}"
            raise TaskError(task.get("id"), reason)
        return [self._images.read(task, tile) for tile in tiles]

    def _load_model(self, project_id: int, version: str) -> Model:
        return Model(self._registry, project_id, version)


def _predicted(
    model: Model, shown: Shown, label_map: LabelMap
) -> Iterator[tuple[int, list[Json], float]]:
    """Yield the place, the regions and the score of each task, whose probabilities are dropped."""
    probs = model.probabilities(image for images in shown.values() for image in images)
    for position, images in shown.items():
        masks, sure = [], []
        for _ in images:
            found = next(probs)
            masks.append(class_mask(found, MIN_AREA_PX))
            sure.append(confidence(found))
        yield position, model.regions(masks, label_map), float(np.mean(sure))
