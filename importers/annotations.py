"""Labels made in other programs become annotations of a project's tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from biosegment.errors import SettingsError
from biosegment.geometry import Roi
from biosegment.labels import UNKNOWN, LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import (
    Json,
    annotation_regions,
    shown_tiles,
    task_data,
    tile_of,
)
from biosegment.progress import Progress, Report
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from biosegment.tiles import Tile, grid_tiles
from importers.base import Choice, VolumeReader
from importers.convert import check_shape
from importers.detect import open_volume
from importers.label_values import LabelValues
from importers.tiles import write_tiles

NO_TIME_S: Final = 0.0
"""Labelling time of what nobody labelled in Label Studio."""


@dataclass(frozen=True, slots=True)
class AnnotatedProject:
    """The result of bringing labels in."""

    project_id: int
    """Number of the project in Label Studio."""
    annotated: int
    """Tasks that got an annotation."""
    added: int
    """Tasks of those that were made for it."""
    skipped: int
    """Tasks that were annotated before, and stay as they are."""


def import_annotations(
    source: Path | str,
    project: str,
    values: LabelValues,
    settings: Settings,
    report: Report,
    *,
    choice: Choice = Choice(),  # noqa: B008 (frozen)
    volume: str | None = None,
) -> AnnotatedProject:
    """Annotate the tasks of a project by a label volume.

    Every tile of the volume that nobody has annotated is, also where the file has background only;
    a sparse file, one with unknown voxels, leaves out what is unknown. Where the file has labels
    and no tile is, tiles of the grid are added. All values are checked before anything is made.

    Parameters
    ----------
    source
        A file, folder or address that a reader knows, of the volume's shape.
    project
        Title or number of the project.
    values
        What the file's values mean.
    settings
        The data root and Label Studio.
    report
        Told of stages and progress.
    choice
        Which volume of those in the file.
    volume
        Which volume of the project, if it has several.

    Raises
    ------
    LabelsMismatchError
        If the file is of another shape than the volume.
    LabelValuesError, LabelConfigError
        If a value means no label of the project.
    BioSegmentError
        When the source cannot be read, or Label Studio refuses.
    """
    with LabelStudioClient(settings) as client, open_volume(source, choice) as reader:
        reader.check_chosen()
        found = client.find_project(project)
        label_map = LabelMap.from_config(client.project(found["id"])["label_config"])
        tasks = client.tasks(found["id"], partial(report, "reading tasks"))
        store = VolumeStore.open(settings.data_root, _volume(tasks, volume))
        check_shape(reader, store)
        values = values.named(str(source), reader.info.label_names, label_map).checked(label_map)
        work = _Work(client, found["id"], reader, values, label_map, store)
        return work.run(tasks, settings.data_root, report)


def _volume(tasks: Sequence[Json], volume: str | None) -> str:
    names = sorted({task["data"]["volume"] for task in tasks if "volume" in task["data"]})
    if volume is None and len(names) == 1:
        return str(names[0])
    if volume is None or volume not in names:
        raise SettingsError("--volume", f"is one of {', '.join(names) or 'none: import one first'}")
    return volume


@dataclass(frozen=True, slots=True)
class _Work:
    client: LabelStudioClient
    project_id: int
    reader: VolumeReader
    values: LabelValues
    label_map: LabelMap
    store: VolumeStore

    def run(self, tasks: Sequence[Json], data_root: Path, report: Report) -> AnnotatedProject:
        ours = [task for task in tasks if task["data"].get("volume") == self.store.name]
        known = {tile_of(task): task for task in ours}
        missing = self._missing(known, partial(report, "checking labels"))
        context = max(len(shown_tiles(task)) for task in ours) // 2
        write_tiles(self.store, missing, data_root, context, partial(report, "writing tiles"))
        depth = self.store.shape[0]
        data = [task_data(tile, context=context, depth=depth) for tile in missing]
        self.client.create_tasks(self.project_id, data, partial(report, "making tasks"))
        if missing:
            added = set(missing)
            for task in self.client.tasks(self.project_id):
                if task["data"].get("volume") == self.store.name and tile_of(task) in added:
                    known[tile_of(task)] = task
        open_tasks = {
            tile: task for tile, task in known.items() if not task.get("total_annotations")
        }
        annotated = self._annotate(open_tasks, partial(report, "annotating"))
        return AnnotatedProject(
            self.project_id, annotated, len(missing), len(known) - len(open_tasks)
        )

    def _missing(self, known: Iterable[Tile], progress: Progress) -> list[Tile]:
        """Return the tiles of the grid that hold labels where no tile is; check all values."""
        tiles_of_slice: dict[int, list[Tile]] = {}
        for tile in known:
            tiles_of_slice.setdefault(tile.z, []).append(tile)
        first = next(iter(known))
        missing = []
        depth = self.store.shape[0]
        for z in range(depth):
            progress(z, depth)
            mask = self._masks(Roi.slice_of(self.store.shape, z))
            covered = np.zeros(mask.shape, bool)
            for tile in tiles_of_slice.get(z, ()):
                covered[tile.roi.slices[1:]] = True
            region = Roi.slice_of(self.store.shape, z)
            for tile in grid_tiles(self.store.name, region, (first.height, first.width)):
                window = tile.roi.slices[1:]
                labelled = (mask[window] != 0) & (mask[window] != UNKNOWN)
                if labelled.any() and not covered[window].any():
                    missing.append(tile)
        progress(depth, depth)
        return missing

    def _annotate(self, tasks: dict[Tile, Json], progress: Progress) -> int:
        done = 0
        for place, (tile, task) in enumerate(sorted(tasks.items(), key=lambda item: item[1]["id"])):
            progress(place, len(tasks))
            mask = self._masks(tile.roi)
            if (mask == UNKNOWN).all():
                continue
            self.client.annotate(task["id"], self._regions(task, mask), NO_TIME_S)
            done += 1
        progress(len(tasks), len(tasks))
        return done

    def _regions(self, task: Json, mask: npt.NDArray[np.uint8]) -> list[Json]:
        regions = annotation_regions(mask, self.label_map)
        shown = shown_tiles(task)
        if len(shown) == 1:
            return regions
        return [region | {"item_index": shown.index(tile_of(task))} for region in regions]

    def _masks(self, roi: Roi) -> npt.NDArray[np.uint8]:
        return self.values.masks(
            str(self.reader.path), self.reader.read_labels(roi)[0], self.label_map
        )
