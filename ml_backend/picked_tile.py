"""The tile at a spot that an expert picked: which one it is, and how it becomes the next task."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from biosegment.errors import TaskError
from biosegment.geometry import Roi
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import (
    NEUTRAL_SCORE,
    Json,
    shown_tiles,
    task_data,
    tile_of,
    untrained_prediction,
)
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from biosegment.tile_images import write_tiles
from biosegment.tiles import Tile, grid_tiles
from ml_backend.predictions import PredictionService

TILE_PX: Final = 256
"""Side of the tiles of a project that has none yet."""
_SAMPLE: Final = 100
_EARLIER: Final = 0.001
"""By how much the score of a picked tile is lower than the lowest."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The tile at a spot."""

    tile: Tile
    """Where it lies."""
    task: Json | None
    """Its task: ``id``, ``data``, ``is_labeled``; None while it has none."""


class TilePicker:
    """Finds the tiles of one volume in one project, and makes tasks of them.

    Parameters
    ----------
    client
        Asked for what tiles the project has.
    project_id
        Number of the project in Label Studio.
    store
        The volume.
    """

    def __init__(self, client: LabelStudioClient, project_id: int, store: VolumeStore) -> None:
        self._client = client
        self._project_id = project_id
        self._store = store
        ours = client.tasks_with(project_id, {"volume": store.name}, _SAMPLE)
        self._sample = ours or client.tasks_with(project_id, {}, _SAMPLE)
        sizes = Counter((tile.height, tile.width) for tile, _ in _tiles(self._sample))
        self.size_yx = sizes.most_common(1)[0][0] if sizes else (TILE_PX, TILE_PX)
        """Rows and columns of most of the project's tiles."""

    def grid(self, z: int) -> list[Tile]:
        """Return the tiles of a slice as `biosegment import` lays them over a whole volume."""
        region = Roi.slice_of(self._store.shape, z)
        return list(grid_tiles(self._store.name, region, self.size_yx))

    def at(self, z: int, y: int, x: int) -> Picked:
        """Return the tile that shows a voxel.

        A tile that is a task already comes first, then one at the same place as tiles of other
        slices, so that the project's own grid goes on, then the grid of the whole volume. Of
        several, that one whose middle is nearest.
        """
        spot = (y, x)
        volume = self._store.name
        here = self._client.tasks_with(self._project_id, {"volume": volume, "z": z})
        if shown := [each for each in _tiles(here) if _shows(each[0], spot)]:
            tile, task = min(shown, key=lambda each: _distance(each[0], spot))
            return Picked(tile, task)
        height, width = self.size_yx
        around = {"y": (y - height + 1, y), "x": (x - width + 1, x)}
        beside = self._client.tasks_with(self._project_id, {"volume": volume, **around}, _SAMPLE)
        places = Counter(tile.at(z) for tile, _ in _tiles(beside) if _shows(tile, spot))
        most = max(places.values(), default=0)
        tiles = [tile for tile, count in places.items() if count == most] or self.grid(z)
        tiles = [tile for tile in tiles if _shows(tile, spot)]
        return Picked(min(tiles, key=lambda tile: _distance(tile, spot)), None)

    def add(self, tile: Tile, settings: Settings, predictions: PredictionService) -> int:
        """Make a task of a tile, served before all others, and return its number.

        It gets the mask and the queue of the version that serves. The next version ranks it
        like any other.

        Parameters
        ----------
        tile
            Of this volume; no task shows it yet.
        settings
            Where the image goes, and where Label Studio finds it.
        predictions
            Predicts the mask.

        Raises
        ------
        TaskError, ModelDamagedError
            If there is no mask to be had.
        DiskFullError
            If the disk is too small.
        """
        project = self._client.project(self._project_id)
        label_map = LabelMap.from_config(project["label_config"])
        context = self._context() if label_map.data_key == "slices" else 0
        data = task_data(tile, context=context, depth=self._store.shape[0])
        write_tiles(self._store, [tile], settings.data_root, context)
        answers = predictions.predict(self._project_id, [{"id": None, "data": data}], label_map)
        prediction = answers[0] if isinstance(answers[0], dict) else untrained_prediction()
        prediction["score"] = self._lowest(project) - _EARLIER
        folder = settings.label_studio_tiles / self._store.name
        self._client.connect_storage(self._project_id, str(folder))
        return self._client.add_task(self._project_id, data, prediction)

    def _context(self) -> int:
        """Return how many slices the project's tasks show on either side."""
        beside = [0]
        for tile, task in _tiles(self._sample):
            shown = [each.z for each in shown_tiles(task)]
            beside.append(max(shown[-1] - tile.z, tile.z - shown[0]))
        return max(beside)

    def _lowest(self, project: Json) -> float:
        # Label Studio fails to order no tasks.
        head = self._client.head_of_queue(project["id"], 1) if project["task_number"] else []
        score = head[0].get("predictions_score") if head else None
        return NEUTRAL_SCORE if score is None else float(score)


def _tiles(tasks: Iterable[Json]) -> list[tuple[Tile, Json]]:
    """Return the tiles of those tasks that an import made."""
    found = []
    for task in tasks:
        with suppress(TaskError):
            found.append((tile_of(task), task))
    return found


def _shows(tile: Tile, spot: tuple[int, int]) -> bool:
    (y, x) = spot
    return tile.y <= y < tile.y + tile.height and tile.x <= x < tile.x + tile.width


def _distance(tile: Tile, spot: tuple[int, int]) -> float:
    """Return the squared distance of a spot from the middle of a tile, px."""
    (y, x) = spot
    return (tile.y + tile.height / 2 - y) ** 2 + (tile.x + tile.width / 2 - x) ** 2
