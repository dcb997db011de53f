"""Tiles of a project to be labelled in another program: intensities, and what the model proposes.

`biosegment.exported_tiles` says how they find their way back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from biosegment.disk import explain_full_disk
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
from exporters import WRITERS
from exporters.base import LabelClass, Layer, VolumeWriter

Mask = npt.NDArray[np.uint8]
Predict: TypeAlias = Callable[[Sequence[npt.NDArray[np.float32]]], list[Mask]]
"""Returns class integers of the project, shape (H, W), of each image (H, W) in [0, 1]."""
IMAGE_FORMAT: Final = "tiff"
"""Of intensities where the format of the labels has no place for them."""


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
) -> TileExport:
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

    Raises
    ------
    SettingsError
        If the format is unknown, the folder holds an export, no task is left to label, or a chosen
        one is labelled.
    ExportError
        If the format cannot hold such a volume.
    DiskFullError
        If the disk is too small.
    BioSegmentError
        When Label Studio refuses.
    """
    if plan.format not in WRITERS:
        raise SettingsError("--format", f"is one of {', '.join(WRITERS)}, not {plan.format}")
    if (folder / TILES_FILE).exists():
        raise SettingsError("--out", f"is {folder}, which holds exported tiles: name another one")
    with LabelStudioClient(settings) as client:
        project = client.find_project(plan.project)
        tasks = client.tasks(project["id"], partial(report, "reading tasks"))
        queue = client.head_of_queue(project["id"], len(tasks)) if plan.count else []
    chosen = _chosen(plan, tasks, queue)
    volume = the_volume(chosen, plan.volume)
    store = VolumeStore.open(settings.data_root, volume)
    label_map = LabelMap.from_config(project["label_config"])
    with explain_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    export = _Export(store, label_map, plan, WRITERS[plan.format](), folder, predictor(project))
    tiles = []
    for done, task in enumerate(chosen):
        report("writing tiles", done, len(chosen))
        tiles.append(export.write(task))
    report("writing tiles", len(chosen), len(chosen))
    classes = {each.value: each.name for each in export.classes}
    place = (export.writer.LABELS_DATASET, export.writer.LABELS_CHANNEL)
    result = TileExport(project["id"], volume, classes, *place, tuple(tiles))
    result.write(folder)
    return result


def _chosen(plan: TilePlan, tasks: Sequence[Json], queue: Sequence[Json]) -> list[Json]:
    """Return the tasks to export, none of which is labelled."""
    if plan.count:
        volume = the_volume(tasks, plan.volume)
        found = [task for task in queue if task["data"].get("volume") == volume][: plan.count]
        if not found:
            raise SettingsError("--tiles", "finds no task of the volume that is not labelled yet")
        return found
    by_number = {task["id"]: task for task in tasks}
    for number in plan.tasks:
        if number not in by_number:
            raise SettingsError("--tasks", f"names {number}, which is no task of this project")
        if by_number[number]["total_annotations"]:
            raise SettingsError("--tasks", f"names {number}, which is annotated already")
    return [by_number[number] for number in plan.tasks]


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
        names, colours = self.label_map.names[1:], self.label_map.colours[1:]
        return tuple(
            LabelClass(value, name, _rgb(colour))
            for value, (name, colour) in enumerate(zip(names, colours, strict=True), start=1)
        )

    def write(self, task: Json) -> ExportedTile:
        tile = tile_of(task)
        shown = self._shown(task, tile)
        region = Roi(shown[0].z, tile.y, tile.x, len(shown), tile.height, tile.width)
        name = f"task{task['id']}_z{tile.z:05}_y{tile.y:06}_x{tile.x:06}"
        image, labels = self._image(region), self._labels(shown, region)
        if self.writer.TOGETHER:
            path = self.folder / f"{name}{self.writer.LABELS_SUFFIX}"
            self.writer.write(path, image, labels)
        else:
            path = self.folder / f"{name}_labels{self.writer.LABELS_SUFFIX}"
            self.writer.write(path, None, labels)
            own = self.writer.IMAGE_SUFFIX is not None
            other = self.writer if own else WRITERS[IMAGE_FORMAT]()
            other.write(self.folder / f"{name}_image{other.IMAGE_SUFFIX}", image, None)
        return ExportedTile(task["id"], path.name, region, digest(path))

    def _shown(self, task: Json, tile: Tile) -> list[Tile]:
        if self.plan.context is None:
            return shown_tiles(task)
        return context_tiles(tile, self.plan.context, self.store.shape[0])

    def _image(self, region: Roi) -> Layer:
        def read(part: Roi) -> npt.NDArray[np.generic]:
            return self.store.read(_inside(region, part))

        store = self.store
        size = store.voxel_size
        return Layer("image", region.shape, store.dtype, size, read, window=store.window)

    def _labels(self, shown: Sequence[Tile], region: Roi) -> Layer:
        masks: npt.NDArray[np.uint8] = np.zeros(region.shape, np.uint8)
        if self.predict is not None:
            masks[:] = self.predict([self.store.read_unit(tile.roi)[0] for tile in shown])

        def read(part: Roi) -> Mask:
            return masks[part.slices]

        size = self.store.voxel_size
        return Layer("labels", region.shape, masks.dtype, size, read, classes=self.classes)


def _inside(region: Roi, part: Roi) -> Roi:
    """Return where a part of a region lies in the volume."""
    return Roi(region.z + part.z, region.y + part.y, region.x + part.x, *part.shape)


def _rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of a colour such as ``#EE7733`` or ``red``; grey if it is not known."""
    try:
        red, green, blue = ImageColor.getrgb(colour)[:3]
    except ValueError:
        return (128, 128, 128)
    return (red, green, blue)
