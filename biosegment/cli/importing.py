"""``biosegment import``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.source import Channel, Dataset, Stack, Time, voxel
from biosegment.errors import SettingsError
from biosegment.geometry import Box, Roi, VoxelSize
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from importers.pool import PoolPlan
    from importers.project import ImportedProject, ProjectPlan

Project = Annotated[str, typer.Option(help="Title of the Label Studio project.")]
Labels = Annotated[str, typer.Option(help="Labels to paint, separated by commas.")]


def import_command(
    stack: Stack,
    project: Project,
    labels: Labels,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the volume in the data folder; the file's if left out."),
    ] = None,
    dataset: Dataset = None,
    channel: Channel = None,
    time: Time = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="Edges of a voxel in z, y, x, such as 40,5,5nm.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Use the file where it is: tiled TIFF, HDF5, Zarr.")
    ] = False,
    preprocess: Annotated[
        str | None,
        typer.Option(help="Steps such as normalise=slice,clahe,bin=1x2x2,denoise=tv,invert."),
    ] = None,
    tile: Annotated[int, typer.Option(min=16, max=4096, help="Side of a tile in pixels.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that grid tiles share.")] = 0,
    pool: Annotated[
        int | None, typer.Option(min=1, help="Take this many tiles instead of the whole grid.")
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            help="How: random (the default), or stratified over depth and grey-level contrast.",
            metavar="random|stratified",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw: another one adds other tiles.")] = 0,
    near: Annotated[
        str | None,
        typer.Option(help="Take the --pool tiles of the grid nearest to a voxel z,y,x instead."),
    ] = None,
    uncertain: Annotated[
        int | None,
        typer.Option(
            "--most-uncertain", min=1, help="Take so many tiles that a segmentation is unsure of."
        ),
    ] = None,
    uncertainty_of: Annotated[
        str | None, typer.Option(help="Labels of that segmentation, if there are several.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Where tiles lie: ranges z,y,x such as 0:10,:,100:600, or a mask file."),
    ] = None,
    context: Annotated[
        int, typer.Option(min=0, max=16, help="Slices to show above and below each tile.")
    ] = 0,
    strategy: Annotated[str | None, typer.Option(help="How the queue is ordered.")] = None,
    retrain_every: Annotated[
        int | None, typer.Option(min=1, help="Annotations after which a training starts.")
    ] = None,
) -> None:
    """Import a stack as a Label Studio project and connect the loop to it.

    Uses the stack that `biosegment up` or `demo` started on the same data folder, or any Label
    Studio given by LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. The same import again adds nothing.
    """
    from importers.base import Choice
    from importers.preprocessing.parse import parse_steps
    from importers.project import ProjectPlan
    from ml_backend.strategies import strategy_named

    settings = Settings.from_env(connection(os.environ))
    strategy_named(strategy or settings.loop.strategy)
    plan = ProjectPlan(
        title=project,
        labels=labels.split(","),
        volume=name or volume_name(stack),
        choice=Choice(dataset, channel, time),
        voxel_size=VoxelSize.parse(voxel_size) if voxel_size else None,
        link=link,
        steps=parse_steps(preprocess) if preprocess is not None else (),
        pool=_pool_plan(tile, overlap, pool, draw, seed, near, region, uncertain, uncertainty_of),
        context=context,
        options={"strategy": strategy, "retrain_every": retrain_every},
    )
    import_and_show(stack, plan, settings)


def _pool_plan(
    tile: int,
    overlap: int,
    count: int | None,
    draw: str | None,
    seed: int,
    near: str | None,
    region: str | None,
    uncertain: int | None,
    uncertainty_of: str | None,
) -> "PoolPlan":
    from importers.pool import DRAWS, PoolPlan

    if overlap >= tile:
        raise SettingsError("--overlap", f"must be less than --tile, which is {tile}")
    if draw is not None and draw not in DRAWS:
        raise SettingsError("--draw", f"is {' or '.join(DRAWS)}, not {draw}")
    if uncertain is not None and count is not None:
        raise SettingsError(
            "--pool", "says how many tiles to draw, and --most-uncertain how many too"
        )
    grid = draw is None and (count is None or near is not None)
    is_mask = region is not None and (":" not in region or Path(region).exists())
    return PoolPlan(
        tile_px=tile,
        overlap_px=overlap,
        draw="grid" if grid else draw or "random",
        count=count if uncertain is None else uncertain,
        seed=seed,
        region=Box.parse(region).within if region and not is_mask else Roi.whole,
        mask=Path(region) if region and is_mask else None,
        near=None if near is None else voxel("--near", near),
        most_uncertain=uncertain is not None,
        uncertainty_of=uncertainty_of,
    )


def import_and_show(
    stack: Path | str, plan: "ProjectPlan", settings: Settings
) -> "ImportedProject":
    """Import a stack with progress bars, and say what came of it."""
    from importers.project import import_project

    with progress_bar() as report:
        imported = import_project(stack, plan, settings, report)
    depth, height, width = imported.store.shape
    known_size = imported.store.voxel_size
    size = known_size or "unknown voxel size"
    console.print(f"Volume {plan.volume}: {depth} x {height} x {width} voxels (z, y, x), {size}")
    for notice in imported.store.source.get("notices", ()):
        console.print(f"{notice}.", markup=False)
    if known_size is None:
        console.print(
            "How large its voxels are is not known; the same command with --voxel-size z,y,x and "
            "a unit, such as --voxel-size 40,5,5nm, sets it without copying the volume again."
        )
    console.print(
        f"Project {plan.title!r}: {imported.added} tasks added, {imported.tasks} in all: "
        f"{settings.label_studio_page}/projects/{imported.project_id}/data",
        markup=False,
        soft_wrap=True,
    )
    if imported.spread:
        console.print(
            f"The first {imported.spread} tasks are spread over the volume; after "
            f"{imported.options.retrain_every} labels the model orders the rest."
        )
    return imported


def volume_name(source: Path | str) -> str:
    """Return a name for a volume: that of its file, without what a name may not hold."""
    path = Path(source)
    if not path.is_file():
        path = path.resolve()
    is_folder = path.is_dir() and path.suffix not in (".zarr", ".n5")
    stem = path.name if is_folder else path.name.split(".")[0]
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in stem).strip("-") or "volume"
