"""Labels made in other programs become annotations, or predictions, of a project's tasks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import numpy as np

from biosegment.errors import TileExportError
from biosegment.exported_tiles import TILES_FILE, TileExport, digest
from biosegment.geometry import Roi
from biosegment.labels import UNKNOWN, LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import (
    BATCH,
    NEUTRAL_SCORE,
    UNTRAINED,
    Json,
    annotation_regions,
    shown_tiles,
    task_data,
    the_volume,
    tile_of,
)
from biosegment.progress import Progress, Report, ignore
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from biosegment.tile_images import write_tiles
from biosegment.tiles import Tile, grid_tiles, spread
from importers.base import Choice
from importers.label_values import LabelValues
from importers.label_volume import LabelVolume, open_labels

NO_TIME_S: Final = 0.0
"""Labelling time of what nobody labelled in Label Studio."""
Kind = Literal["annotations", "predictions"]
KINDS: Final[tuple[Kind, ...]] = ("annotations", "predictions")
"""What labels can become."""


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What to make of a file of labels."""

    project: str
    """Title or number of the project."""
    values: LabelValues
    """What the file's values mean."""
    kind: Kind = "annotations"
    """Annotations to learn from, or predictions for experts to correct."""
    choice: Choice = field(default_factory=Choice)
    """Which volume of those in the file."""
    volume: str | None = None
    """Which volume of the project, if it has several."""
    at: tuple[int, int, int] | None = None
    """Voxel (z, y, x) of the volume where the file's first one lies; None for a file of the whole
    volume."""
    unchanged: bool = False
    """Take exported tiles, too, whose file is as it was written."""


@dataclass(frozen=True, slots=True)
class LabelledProject:
    """The result of bringing labels in."""

    project_id: int
    """Number of the project in Label Studio."""
    labelled: int
    """Tasks that got an annotation, or a prediction."""
    added: int
    """Tasks of those that were made for it."""
    skipped: int
    """Tasks that had one before, and stay as they are."""
    unchanged: int = 0
    """Exported tiles left out since nobody has changed their file."""


def import_annotations(
    source: Path | str, plan: LabelPlan, settings: Settings, report: Report
) -> LabelledProject:
    """Annotate the tasks of a project by a label volume, or by a folder of exported tiles.

    Every tile that the file covers and nobody has annotated is, also where the file has background
    only; a sparse file, one with unknown voxels, leaves out what is unknown. Where the file has
    labels and no tile is, tiles of the grid are added. Of a task that shows neighbouring slices,
    all that the file covers are annotated. Values are checked before anything is made.

    Parameters
    ----------
    source
        A file, folder or address that a reader knows, of the volume's shape or lying in it; ROIs of
        ImageJ; or a folder that tiles were exported into.
    plan
        What to make of it.
    settings
        The data root and Label Studio.
    report
        Told of stages and progress.

    Raises
    ------
    LabelsMismatchError
        If the file is of another shape than the volume.
    LabelValuesError, LabelConfigError
        If a value means no label of the project.
    TileExportError
        If exported tiles do not belong to the project.
    BioSegmentError
        When the source cannot be read, or Label Studio refuses.
    """
    folder = Path(source)
    export = TileExport.read(folder) if (folder / TILES_FILE).is_file() else None
    with LabelStudioClient(settings) as client:
        project = client.find_project(plan.project)
        tasks = client.tasks(project["id"], partial(report, "reading tasks"))
        name = the_volume(tasks, plan.volume) if export is None else export.volume
        work = _Work(
            client,
            project,
            LabelMap.from_config(project["label_config"]),
            VolumeStore.open(settings.data_root, name),
            plan,
            f"imported ({folder.name})",
        )
        if export is not None:
            return work.bring_back(folder, export, tasks, report)
        return work.bring_in(source, tasks, settings.data_root, report)


@dataclass(frozen=True, slots=True)
class _Work:
    client: LabelStudioClient
    project: Json
    label_map: LabelMap
    store: VolumeStore
    plan: LabelPlan
    version: str
    """What the predictions are called in Label Studio."""

    def bring_in(
        self, source: Path | str, tasks: Sequence[Json], data_root: Path, report: Report
    ) -> LabelledProject:
        """Label the tasks that one file covers, those added where it has labels included."""
        ours = [task for task in tasks if task["data"].get("volume") == self.store.name]
        known = {tile_of(task): task for task in ours}
        with open_labels(
            source, self.store, self.plan.values, self.label_map, self.plan.choice, at=self.plan.at
        ) as labels:
            missing = self._missing(labels, known, partial(report, "checking labels"))
            context = max(len(shown_tiles(task)) for task in ours) // 2
            known |= self._added(missing, context, data_root, report)
            covered = {tile: task for tile, task in known.items() if labels.covers(tile.roi)}
            todo = self._unlabelled(covered)
            results = self._results(labels, todo, partial(report, "labelling"))
            count = self._submit(results, todo)
        return LabelledProject(self.project["id"], count, len(missing), len(covered) - len(todo))

    def bring_back(
        self, folder: Path, export: TileExport, tasks: Sequence[Json], report: Report
    ) -> LabelledProject:
        """Label the tasks whose exported files were changed."""
        by_number = {task["id"]: task for task in tasks}
        gone = [each.task for each in export.tiles if each.task not in by_number]
        if export.project != self.project["id"]:
            reason = f"they are of project number {export.project}"
            raise TileExportError(str(folder), reason)
        if gone:
            reason = f"task {gone[0]} is not in the project any more"
            raise TileExportError(str(folder), reason)
        taken = [
            each
            for each in export.tiles
            if self.plan.unchanged or digest(folder / each.labels) != each.digest
        ]
        tiles = {tile_of(by_number[each.task]): by_number[each.task] for each in taken}
        todo = self._unlabelled(tiles)
        numbers = {task["id"] for task in todo.values()}
        results: list[tuple[Json, list[Json]]] = []
        choice = Choice(export.dataset, export.channel)
        # All files are read before anything is submitted: one that cannot be used stops them all.
        for place, each in enumerate(taken):
            report("reading labels", place, len(taken))
            if each.task not in numbers:
                continue
            start = (each.region.z, each.region.y, each.region.x)
            with open_labels(
                folder / each.labels,
                self.store,
                self.plan.values,
                self.label_map,
                choice,
                at=start,
                shape=each.region.shape,
                names=export.classes,
            ) as labels:
                task = by_number[each.task]
                results += self._results(labels, {tile_of(task): task}, ignore)
        report("reading labels", len(taken), len(taken))
        count = self._submit(results, todo)
        unchanged = len(export.tiles) - len(taken)
        return LabelledProject(self.project["id"], count, 0, len(taken) - len(todo), unchanged)

    def _missing(
        self, labels: LabelVolume, known: Iterable[Tile], progress: Progress
    ) -> list[Tile]:
        """Return the tiles of the grid that hold labels where no tile is; check all values."""
        tiles_of_slice: dict[int, list[Tile]] = {}
        for tile in known:
            tiles_of_slice.setdefault(tile.z, []).append(tile)
        first = next(iter(known))
        missing = []
        place = labels.region
        for done, z in enumerate(range(place.z, place.z + place.depth)):
            progress(done, place.depth)
            region = Roi(z, place.y, place.x, 1, place.height, place.width)
            mask = labels.mask(region)
            covered = np.zeros(self.store.shape[1:], bool)
            for tile in tiles_of_slice.get(z, ()):
                covered[tile.roi.slices[1:]] = True
            covered = covered[region.slices[1:]]
            for tile in grid_tiles(self.store.name, region, (first.height, first.width)):
                rows = slice(tile.y - place.y, tile.y - place.y + tile.height)
                window = (rows, slice(tile.x - place.x, tile.x - place.x + tile.width))
                labelled = (mask[window] != 0) & (mask[window] != UNKNOWN)
                if labelled.any() and not covered[window].any():
                    missing.append(tile)
        progress(place.depth, place.depth)
        return missing

    def _added(
        self, missing: Sequence[Tile], context: int, data_root: Path, report: Report
    ) -> dict[Tile, Json]:
        """Make a task for each tile and return them."""
        if not missing:
            return {}
        write_tiles(self.store, missing, data_root, context, partial(report, "writing tiles"))
        depth = self.store.shape[0]
        data = [task_data(tile, context=context, depth=depth) for tile in missing]
        self.client.create_tasks(self.project["id"], data, partial(report, "making tasks"))
        wanted = set(missing)
        tasks = self.client.tasks(self.project["id"])
        ours = [task for task in tasks if task["data"].get("volume") == self.store.name]
        return {tile_of(task): task for task in ours if tile_of(task) in wanted}

    def _unlabelled(self, tasks: Mapping[Tile, Json]) -> dict[Tile, Json]:
        """Return the tasks, in the order of their numbers, that nobody has labelled."""
        done: set[int] = set()
        if self.plan.kind == "predictions":
            done = self.client.predicted_tasks(self.project["id"], self.version)
        return {
            tile: task
            for tile, task in sorted(tasks.items(), key=lambda item: item[1]["id"])
            if not task.get("total_annotations") and task["id"] not in done
        }

    def _results(
        self, labels: LabelVolume, tasks: Mapping[Tile, Json], progress: Progress
    ) -> Iterator[tuple[Json, list[Json]]]:
        """Yield each task that the labels say something of, and the regions that say it."""
        for place, (tile, task) in enumerate(tasks.items()):
            progress(place, len(tasks))
            masks = [
                labels.mask(shown.roi) if labels.covers(shown.roi) else None
                for shown in shown_tiles(task)
            ]
            target = masks[shown_tiles(task).index(tile)]
            if target is not None and not (target == UNKNOWN).all():
                yield task, annotation_regions(masks, self.label_map)
        progress(len(tasks), len(tasks))

    def _submit(
        self, results: Iterable[tuple[Json, list[Json]]], tiles: Mapping[Tile, Json]
    ) -> int:
        """Send annotations or predictions to Label Studio; return how many."""
        if self.plan.kind == "annotations":
            count = 0
            for task, regions in results:
                self.client.annotate(task["id"], regions, NO_TIME_S)
                count += 1
            return count
        scores = self._scores(tiles)
        count = 0
        found = iter(results)
        while batch := list(islice(found, BATCH)):
            predictions = [
                {
                    "task": task["id"],
                    "result": regions,
                    "score": scores[task["id"]],
                    "model_version": self.version,
                }
                for task, regions in batch
            ]
            self.client.import_predictions(self.project["id"], predictions)
            count += len(predictions)
        # A model's own masks go on to serve where there are some.
        if count and self.project["model_version"] in (None, "", UNTRAINED):
            self.client.set_model_version(self.project["id"], self.version)
        return count

    def _scores(self, tiles: Mapping[Tile, Json]) -> dict[int, float]:
        """Return scores that serve tasks spread over the volume first, as before any model."""
        ordered = list(tiles)
        first = spread(ordered, self.store.voxel_size)
        scores = {task["id"]: NEUTRAL_SCORE for task in tiles.values()}
        for place, index in enumerate(first):
            scores[tiles[ordered[index]]["id"]] = NEUTRAL_SCORE * place / len(first)
        return scores
