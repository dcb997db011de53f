"""``biosegment objects``."""

import os
from typing import Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.only_labels import only_labels
from biosegment.errors import SettingsError
from biosegment.settings import Settings
from biosegment.stack import connection
from biosegment.store import VolumeStore


def objects(
    volume: Annotated[str, typer.Argument(help="Name of a volume in the data folder.")],
    labels: Annotated[
        str | None, typer.Option(help="Which labels; can be left out for the only ones of classes.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the objects; LABELS-objects if left out.")
    ] = None,
    min_voxels: Annotated[int, typer.Option(min=1, help="Leave out objects of fewer voxels.")] = 1,
    fill_holes: Annotated[
        int, typer.Option(min=0, help="Fill holes in objects of at most that many voxels.")
    ] = 0,
    split_distance: Annotated[
        float | None,
        typer.Option(help="Split objects at necks that are narrower in radius by that many nm."),
    ] = None,
    split_probability: Annotated[
        float | None,
        typer.Option(help="Split objects where their probability, 0 to 1, sinks by that much."),
    ] = None,
    connectivity: Annotated[
        int, typer.Option(help="6, 18 or 26: voxels touch by faces, edges too, or corners too.")
    ] = 26,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace objects of that name.")
    ] = False,
) -> None:
    """Tell the objects of a segmented volume apart: a number for each, kept with the volume."""
    from biosegment.objects.components import CONNECTIVITIES
    from biosegment.objects.instances import ObjectsPlan, make_objects

    if connectivity not in CONNECTIVITIES:
        raise SettingsError("--connectivity", f"is 6, 18 or 26, not {connectivity}")
    if split_distance is not None and split_probability is not None:
        raise SettingsError("--split-probability", "and --split-distance exclude each other")
    if split_distance is not None and split_distance <= 0:
        raise SettingsError("--split-distance", f"is above 0 nm, not {split_distance:g}")
    if split_probability is not None and not 0 < split_probability < 1:
        raise SettingsError("--split-probability", f"is between 0 and 1, not {split_probability:g}")
    store = VolumeStore.open(Settings.from_env(connection(os.environ)).data_root, volume)
    chosen = labels or only_labels(store, objects=False)
    plan = ObjectsPlan(
        chosen, connectivity, min_voxels, fill_holes, split_distance, split_probability
    )
    out = name or f"{chosen}-objects"
    with progress_bar() as report:
        count = make_objects(store, plan, out, report, overwrite=overwrite)
    console.print(
        f"{count} objects: labels {out!r} of the volume {volume!r}. To measure them:\n"
        f"biosegment measure {volume} --labels {out} --out FOLDER",
        markup=False,
        soft_wrap=True,
    )
