"""``biosegment export``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.errors import SettingsError
from biosegment.labels import LabelMap
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from biosegment.labelstudio.payloads import Json
    from exporters.tiles import Predict


def export(
    project: Annotated[str, typer.Argument(help="Title or number of a Label Studio project.")],
    out: Annotated[Path, typer.Option(help="Folder to write them into.")],
    tiles: Annotated[
        int | None, typer.Option(min=1, help="How many tiles, from the head of the queue.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Numbers of the tasks to export instead, such as 12,17.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Format of the files: nrrd, tiff, ims, amira, mib, rois, …")
    ] = "tiff",
    context: Annotated[
        int | None,
        typer.Option(
            min=0, max=64, help="Slices above and below each; as the tasks show if left out."
        ),
    ] = None,
    volume: Annotated[
        str | None, typer.Option(help="Which volume of the project, if it has several.")
    ] = None,
) -> None:
    """Write the tiles to be labelled next, with the model's masks, for another program.

    Change the labels there, save them under their old name, and bring them back by `biosegment
    annotations FOLDER --project PROJECT`.
    """
    from exporters.tiles import TilePlan, export_tiles
    from ml_backend.model_registry import ModelRegistry
    from ml_backend.predictions import mask_predictor

    settings = Settings.from_env(connection(os.environ))

    def predictor(found: "Json") -> "Predict | None":
        label_map = LabelMap.from_config(found["label_config"])
        return mask_predictor(ModelRegistry(settings.data_root), found["id"], label_map)

    if (tiles is None) == (tasks is None):
        raise SettingsError("--tiles", "says how many, or --tasks which: give one of them")
    plan = TilePlan(project, format, tiles, _numbers(tasks or ""), context, volume)
    with progress_bar() as report:
        done = export_tiles(plan, out, predictor, settings, report)
    console.print(f"{len(done.tiles)} tiles written to {out}; their labels are in", markup=False)
    for tile in done.tiles:
        console.print(f"  {tile.labels}", markup=False)
    console.print(
        "Change them, save them under the same names, then: "
        f"biosegment annotations {out} --project {done.project}",
        markup=False,
    )


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() for part in parts):
        raise SettingsError("--tasks", f"is a list of numbers such as 12,17, not {text}")
    return tuple(map(int, parts))
