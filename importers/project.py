"""A volume becomes a Label Studio project: its tiles are tasks, and the loop is connected."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from biosegment.errors import LabelConfigError, SettingsError
from biosegment.geometry import VoxelSize
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, task_data, tile_of
from biosegment.progress import Report
from biosegment.settings import LoopOptions, Settings
from biosegment.store import VolumeStore
from biosegment.tile_images import write_tiles
from biosegment.tiles import Tile, spread
from importers.base import Choice
from importers.convert import import_volume
from importers.pool import PoolPlan
from importers.preprocessing.base import Step

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What to make of a volume."""

    title: str
    """Title of the Label Studio project; an existing one of that title is extended."""
    labels: Sequence[str]
    """Labels to paint; `background` among them makes sparse annotations possible."""
    volume: str
    """Name of the volume in the data root."""
    choice: Choice = field(default_factory=Choice)
    """Which volume of those in the source."""
    voxel_size: VoxelSize | None = None
    """What counts instead of what the source tells."""
    link: bool = False
    """Use the source where it is instead of a copy."""
    steps: Sequence[Step] = ()
    """Preprocessing of the volume."""
    pool: PoolPlan = field(default_factory=PoolPlan)
    """Which tiles become tasks."""
    context: int = 0
    """Slices shown above and below each tile."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `LoopOptions` to set; what it leaves out, or None, stays as it is."""


@dataclass(frozen=True, slots=True)
class ImportedProject:
    """The result of an import."""

    project_id: int
    """Number of the project in Label Studio."""
    store: VolumeStore
    """The volume."""
    added: int
    """Tasks that this import made."""
    tasks: int
    """Tasks of the project, those included."""
    spread: int
    """How many tasks of a new project are served first, spread over the volume; else 0."""
    options: LoopOptions
    """How its loop runs."""


def import_project(
    source: Path | str,
    plan: ProjectPlan,
    settings: Settings,
    report: Report,
) -> ImportedProject:
    """Import a volume and make, or extend, the project to label it in.

    Each step first looks at what is there: the same import again adds nothing and changes
    nothing, and one that was interrupted is completed.

    Parameters
    ----------
    source
        A volume: a file, a folder or an address.
    plan
        What to make of it.
    settings
        The data root and Label Studio.
    report
        Told of stages and progress.

    Raises
    ------
    BioSegmentError
        When the source cannot be read, Label Studio refuses, or a project of this title has other
        labels. Nothing was made in Label Studio if the source is at fault.
    """
    if not 3 <= len(plan.title) <= 50:
        raise SettingsError("--project", "must be a title of 3 to 50 characters")
    config = labelling_config(plan.labels, slices=plan.context > 0)
    with LabelStudioClient(settings) as client:
        return _import(source, plan, config, settings, client, report)


def _import(
    source: Path | str,
    plan: ProjectPlan,
    config: str,
    settings: Settings,
    client: LabelStudioClient,
    report: Report,
) -> ImportedProject:
    client.check()
    project = _matching_project(client, plan.title, config)
    store = import_volume(
        source,
        settings.data_root,
        plan.volume,
        partial(report, "importing slices"),
        choice=plan.choice,
        voxel_size=plan.voxel_size,
        link=plan.link,
        steps=plan.steps,
    )
    tiles = plan.pool.tiles(store, partial(report, "looking at tiles"))
    write_tiles(store, tiles, settings.data_root, plan.context, partial(report, "writing tiles"))
    if project is None:
        project = client.create_project(plan.title, config)
    project_id = project["id"]
    client.connect_storage(project_id, str(settings.label_studio_tiles / plan.volume))
    present = _present_tiles(client, project_id)
    # The first batch of tasks holds all that come first, so an interrupted import has them or none.
    first = [] if present else spread(tiles, store.voxel_size)
    ordered = {tiles[index]: None for index in first} | dict.fromkeys(tiles)
    missing = [
        task_data(tile, context=plan.context, depth=store.shape[0])
        for tile in ordered
        if tile not in present
    ]
    client.create_tasks(project_id, missing, partial(report, "making tasks"), len(first))
    options = (client.loop_options(project_id) or settings.loop).updated(plan.options)
    client.connect_backend(project_id, options)
    client.add_views(project_id)
    count = len(present) + len(missing)
    return ImportedProject(project_id, store, len(missing), count, len(first), options)


def _matching_project(client: LabelStudioClient, title: str, config: str) -> Json | None:
    """Return the project of this title, None if there is none yet."""
    same = [project for project in client.projects() if project["title"] == title]
    if not same:
        return None
    project = client.project(same[0]["id"])
    wanted, found = LabelMap.from_config(config), LabelMap.from_config(project["label_config"])
    if (wanted.names, wanted.has_background_brush) != (found.names, found.has_background_brush):
        labels = ", ".join(found.names[0 if found.has_background_brush else 1 :])
        raise LabelConfigError(f"the project {title!r} exists and has the labels {labels}")
    if wanted.data_key != found.data_key:
        shown = "single slices" if found.data_key == "image" else "slices with their context"
        raise LabelConfigError(f"the project {title!r} exists and shows {shown}")
    return project


def _present_tiles(client: LabelStudioClient, project_id: int) -> set[Tile]:
    found: set[Tile] = set()
    for task in client.tasks(project_id):
        data: dict[str, Any] = task["data"]
        if "volume" in data:
            found.add(tile_of(task))
    return found
