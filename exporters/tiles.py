"""Tiles of a project to be labelled in another program: intensities, and what the model proposes.

`biosegment.exported_tiles` says how they find their way back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from biosegment.errors import SettingsError
from biosegment.exported_tiles import TILES_FILE, ExportedTile, TileExport, digest
from biosegment.geometry import Roi
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, shown_tiles, the_volume, tile_of
from biosegment.progress import Report
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from biosegment.tiles import Tile, context_tiles
from exporters.base import LabelClass, Layer, VolumeWriter
from exporters.write import label_classes, out_files, write_files, writer_named

Mask = npt.NDArray[np.uint8]
Predict: TypeAlias = Callable[[Sequence[npt.NDArray[np.float32]]], list[Mask]]
"""Returns class integers of the project, shape (H, W), of each image (H, W) in [0, 1]."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Which tiles to export, and how."""

    project: str
    """Title or number of the project."""
    format: str
    """Name of a writer."""
    count: int | None = None
    """How many, from the head of the queue."""
    tasks: tuple[int, ...] = ()
    """Numbers of the tasks, instead."""
    context: int | None = None
    """Slices above and below each tile; None for as many as the task shows."""
    volume: str | None = None
    """Which volume of the project, if it has several."""


def export_tiles(
    plan: TilePlan,
    folder: Path,
    predictor: Callable[[Json], Predict | None],
    settings: Settings,
    report: Report,
) -> tuple[TileExport, tuple[str, ...]]:
    """Write the tiles that are to be labelled next, and the labels to begin with.

    Parameters
    ----------
    plan
        Which and how.
    folder
        Made if need be; it must hold no export yet.
    predictor
        Returns what proposes masks in a project; None without a model: then labels are empty.
    settings
        The data root and Label Studio.
    report
        Told of stages and progress.

    Returns
    -------
    TileExport
        What stands in ``tiles.json``.
    tuple of str
        What the user has to know of the files: sentences without their full stops.

    Raises
    ------
    SettingsError
        If the format is unknown or one that labels do not come back from, the folder holds an
        export or cannot be made, no task is left to label, or a chosen one is labelled.
    ExportError
        If the format cannot hold such a volume.
    DiskFullError
        If the disk is too small.
    BioSegmentError
        When Label Studio refuses.
    """
    writer = writer_named(plan.format, to_edit=True)
    if (folder / TILES_FILE).exists():
        raise SettingsError("--out", f"is {folder}, which holds exported tiles: name another one")
    with LabelStudioClient(settings) as client:
        project = client.find_project(plan.project)
        tasks = client.tasks(project["id"], partial(report, "reading tasks"))
        if plan.count:
            volume = the_volume(tasks, plan.volume)
            chosen = _next(client, project["id"], volume, plan.count)
        else:
            chosen = _named(tasks, plan.tasks)
            volume = the_volume(chosen, plan.volume)
    store = VolumeStore.open(settings.data_root, volume)
    label_map = LabelMap.from_config(project["label_config"])
    export = _Export(store, label_map, plan, writer, folder, predictor(project))
    tiles: list[ExportedTile] = []
    notices: dict[str, None] = {}
    for done, task in enumerate(chosen):
        report("writing tiles", done, len(chosen))
        tile, told = export.write(task)
        tiles.append(tile)
        notices |= dict.fromkeys(told)
    report("writing tiles", len(chosen), len(chosen))
    classes = {each.value: each.name for each in export.classes}
    place = (export.writer.LABELS_DATASET, export.writer.LABELS_CHANNEL)
    result = TileExport(project["id"], volume, classes, *place, tuple(tiles))
    result.write(folder)
    return result, tuple(notices)


def _next(client: LabelStudioClient, project_id: int, volume: str, count: int) -> list[Json]:
    """Return the tasks of a volume that are to be labelled next."""
    size = count
    while True:
        queue = client.head_of_queue(project_id, size)
        found = [task for task in queue if task["data"].get("volume") == volume]
        if len(found) >= count or len(queue) < size:
            break
        # The others are of other volumes.
        size *= 4
    if not found:
        raise SettingsError("--tiles", "finds no task of the volume that is not labelled yet")
    return found[:count]


def _named(tasks: Sequence[Json], numbers: Sequence[int]) -> list[Json]:
    """Return the tasks of these numbers, none of which is labelled."""
    by_number = {task["id"]: task for task in tasks}
    for number in numbers:
        if number not in by_number:
            raise SettingsError("--tasks", f"names {number}, which is no task of this project")
        if by_number[number]["total_annotations"]:
            raise SettingsError("--tasks", f"names {number}, which is annotated already")
    return [by_number[number] for number in numbers]


@dataclass(frozen=True, slots=True)
class _Export:
    store: VolumeStore
    label_map: LabelMap
    plan: TilePlan
    writer: VolumeWriter
    folder: Path
    predict: Predict | None

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The project's classes but background; their values are those of masks."""
        return label_classes(self.label_map.names[1:], self.label_map.colours[1:])

    def write(self, task: Json) -> tuple[ExportedTile, tuple[str, ...]]:
        tile = tile_of(task)
        shown = self._shown(task, tile)
        region = Roi(shown[0].z, tile.y, tile.x, len(shown), tile.height, tile.width)
        name = f"task{task['id']}_z{tile.z:05}_y{tile.y:06}_x{tile.x:06}"
        image, labels = self._image(region), self._labels(shown, region)
        written = write_files(out_files(self.writer, self.folder, name, image, labels))
        path = written.paths[0]
        return ExportedTile(task["id"], path.name, region, digest(path)), written.notices

    def _shown(self, task: Json, tile: Tile) -> list[Tile]:
        if self.plan.context is None:
            return shown_tiles(task)
        return context_tiles(tile, self.plan.context, self.store.shape[0])

    def _image(self, region: Roi) -> Layer:
        store = self.store
        size, window = store.voxel_size, store.window
        return Layer("image", store.shape, store.dtype, size, store.read, window).part(region)

    def _labels(self, shown: Sequence[Tile], region: Roi) -> Layer:
        masks: npt.NDArray[np.uint8] = np.zeros(region.shape, np.uint8)
        if self.predict is not None:
            masks[:] = self.predict([self.store.read_unit(tile.roi)[0] for tile in shown])

        def read(part: Roi) -> Mask:
            return masks[part.slices]

        size = self.store.voxel_size
        return Layer("labels", region.shape, masks.dtype, size, read, classes=self.classes)
