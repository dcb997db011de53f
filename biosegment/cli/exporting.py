"""``biosegment export``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.model_name import find_model
from biosegment.errors import SettingsError, VolumeNotFoundError
from biosegment.geometry import Box
from biosegment.labels import LabelMap
from biosegment.settings import Settings
from biosegment.stack import connection

if TYPE_CHECKING:
    from biosegment.labelstudio.payloads import Json
    from exporters.tiles import Predict, TilePlan
    from exporters.volume import VolumePlan

MODEL_FORMATS: Final = ("bioimageio", "torchscript", "onnx")
"""What a trained model can be written as, in place of a volume."""


def export(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a volume in the data folder; with --tiles, --tasks or a model's format, "
            "title or number of a Label Studio project."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    format: Annotated[
        str,
        typer.Option(
            help="Format of the files: nrrd, tiff, ims, n5, gltf, …, `biosegment formats` has all; "
            "of a trained model bioimageio, torchscript or onnx."
        ),
    ] = "tiff",
    labels: Annotated[
        str | None,
        typer.Option(
            help="Which labels of the volume, or none; can be left out for the only ones."
        ),
    ] = None,
    image: Annotated[
        bool | None, typer.Option("--image/--no-image", help="Write the volume's intensities.")
    ] = None,
    map: Annotated[
        str | None,
        typer.Option(help="Write a map of the labels instead: uncertainty, or probability-CLASS."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="Which part of the volume: ranges z,y,x such as 0:10,:,100:600."),
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, help="A coarser level of the volume; 0 is the finest.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of the volume that are there.")
    ] = False,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="How many tiles, from the head of the queue.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Numbers of the tasks to export instead, such as 12,17.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=0, max=64, help="Slices above and below each tile; as the tasks show if left out."
        ),
    ] = None,
    volume: Annotated[
        str | None, typer.Option(help="Which volume of the project, if it has several.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="Who made the model; give it once for each.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the model, by its SPDX identifier.")
    ] = None,
) -> None:
    """Write a volume and its labels for another program, tiles to be labelled there, or a model.

    With --tiles or --tasks, it writes tiles of a project with the model's masks: change the labels
    there, save them under their old name, and bring them back by `biosegment annotations FOLDER
    --project PROJECT`. With the format bioimageio, torchscript or onnx, it writes the model that
    serves PROJECT, or PROJECT@VERSION.
    """
    from exporters import WRITERS
    from exporters.tiles import TilePlan
    from exporters.volume import VolumePlan

    settings = Settings.from_env(connection(os.environ))
    switch = "--no-image" if image is False else "--image"
    of_volume = {"--labels": labels, switch: image, "--region": region, "--level": level}
    of_volume |= {"--map": map}
    of_tiles = {"--context": context, "--volume": volume}
    of_package = {"--author": author or None, "--license": license}
    if format in MODEL_FORMATS:
        several = {"--tiles": tiles, "--tasks": tasks}
        _refuse(
            of_volume | several | of_tiles, f"is not for a model, which {format} is a format of"
        )
        if format != "bioimageio":
            _refuse(of_package, "goes with --format bioimageio")
        _export_model(name, format, author or (), license, force, out, settings)
        return
    _refuse(of_package, "goes with --format bioimageio")
    if format not in WRITERS:
        known = ", ".join([*WRITERS, *MODEL_FORMATS])
        raise SettingsError("--format", f"is one of {known}, not {format}")
    if tiles is None and tasks is None:
        _refuse(of_tiles, "goes with --tiles or --tasks")
        plan = VolumePlan(
            volume=name,
            format=format,
            image=image is not False,
            labels=labels,
            map=map,
            region=None if region is None else Box.parse(region),
            level=level or 0,
            force=force,
        )
        write_volume(plan, out, settings)
        return
    _refuse(of_volume | {"--force": force or None}, "is for volumes, not for --tiles or --tasks")
    if tiles is not None and tasks is not None:
        raise SettingsError("--tiles", "says how many, or --tasks which: give one of them")
    _export_tiles(
        TilePlan(name, format, tiles, _numbers(tasks or ""), context, volume), out, settings
    )


def _refuse(options: Mapping[str, object], reason: str) -> None:
    """Raise SettingsError if one of these options was given."""
    for option, value in options.items():
        if value is not None:
            raise SettingsError(option, reason)


def write_volume(plan: "VolumePlan", out: Path, settings: Settings) -> None:
    """Write a volume, with a bar, and tell what was written.

    Raises
    ------
    BioSegmentError
        As `exporters.volume.export_volume`.
    """
    from exporters.volume import export_volume

    try:
        with progress_bar() as report:
            written = export_volume(plan, out, settings.data_root, report)
    except VolumeNotFoundError as exc:
        reason = (
            f"or --tasks has to be given for tiles of a project, and {plan.volume} is no volume"
        )
        raise SettingsError("--tiles", f"{reason} in {settings.data_root}") from exc
    for path in written.paths:
        console.print(f"{path} written", markup=False, soft_wrap=True)
    _tell(written.notices)


def _export_tiles(plan: "TilePlan", out: Path, settings: Settings) -> None:
    from exporters.tiles import export_tiles
    from ml_backend.model_registry import ModelRegistry
    from ml_backend.predictions import mask_predictor

    def predictor(found: "Json") -> "Predict | None":
        label_map = LabelMap.from_config(found["label_config"])
        return mask_predictor(ModelRegistry.of(settings), found["id"], label_map)

    with progress_bar() as report:
        done, notices = export_tiles(plan, out, predictor, settings, report)
    lines = [f"{len(done.tiles)} tiles written to {out}; their labels are in"]
    lines += [f"  {tile.labels}" for tile in done.tiles]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    _tell(notices)
    console.print(
        "Change them, save them under the same names, then: "
        f"biosegment annotations {out} --project {done.project}",
        markup=False,
        soft_wrap=True,
    )


def _export_model(
    model: str,
    format: str,
    authors: Sequence[str],
    licence: str | None,
    force: bool,
    out: Path,
    settings: Settings,
) -> None:
    from ml_backend.model_export import AUTHOR, LICENCE, ModelPlan, export_model
    from ml_backend.model_registry import ModelRegistry

    registry = ModelRegistry.of(settings)
    project_id, version = find_model(model, settings, registry, "PROJECT")
    plan = ModelPlan(project_id, version, format, authors or (AUTHOR,), licence or LICENCE, force)
    path = export_model(plan, out, registry)
    console.print(f"{path} written", markup=False, soft_wrap=True)


def _tell(notices: Iterable[str]) -> None:
    for notice in notices:
        console.print(f"{notice}.", markup=False, soft_wrap=True)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",") if text else []
    if not all(part.strip().isdecimal() for part in parts):
        raise SettingsError("--tasks", f"is a list of numbers such as 12,17, not {text}")
    return tuple(map(int, parts))
