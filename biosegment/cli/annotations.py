"""``biosegment annotations``."""

import os
from typing import Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.source import Channel, Dataset, Stack, Time, voxel
from biosegment.errors import SettingsError
from biosegment.settings import Settings
from biosegment.stack import connection


def annotations(
    file: Stack,
    project: Annotated[str, typer.Option(help="Title or number of the Label Studio project.")],
    values: Annotated[
        str | None,
        typer.Option("--map", help="What the values mean, such as 1=mitochondria,2=vesicles."),
    ] = None,
    unknown: Annotated[
        int | None, typer.Option(help="Value of voxels that nobody has labelled.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            help="What they become: annotations to learn from, or predictions to correct.",
            metavar="annotations|predictions",
        ),
    ] = "annotations",
    at: Annotated[
        str | None,
        typer.Option(help="Voxel z,y,x of the volume at which the file begins; else it is whole."),
    ] = None,
    unchanged: Annotated[
        bool, typer.Option("--unchanged", help="Take exported tiles that nobody changed, too.")
    ] = False,
    volume: Annotated[
        str | None, typer.Option(help="Which volume of the project, if it has several.")
    ] = None,
    dataset: Dataset = None,
    channel: Channel = None,
    time: Time = None,
) -> None:
    """Annotate a project's tasks by labels that were made in another program.

    FILE is a label volume, ROIs of ImageJ, or the folder that `biosegment export --tiles` wrote. In
    a project of one label every value above 0 is that label. Tasks that are annotated already stay
    as they are; tiles are added where the file has labels and the project none.
    """
    from importers.annotations import KINDS, LabelPlan, import_annotations
    from importers.base import Choice
    from importers.label_values import LabelValues

    chosen = next((each for each in KINDS if each == kind), None)
    if chosen is None:
        raise SettingsError("--as", f"is {' or '.join(KINDS)}, not {kind}")
    plan = LabelPlan(
        project=project,
        values=LabelValues.parse(values, unknown) if values else LabelValues(unknown=unknown),
        kind=chosen,
        choice=Choice(dataset, channel, time),
        volume=volume,
        at=voxel("--at", at) if at else None,
        unchanged=unchanged,
    )
    settings = Settings.from_env(connection(os.environ))
    with progress_bar() as report:
        done = import_annotations(file, plan, settings, report)
    got = "annotated" if chosen == "annotations" else "given a prediction"
    had = "labelled" if chosen == "annotations" else "labelled, or had it,"
    told = (
        f"{done.labelled} tasks {got}, {done.added} of them added; {done.skipped} were {had} before"
    )
    console.print(
        f"{told}: {settings.label_studio_page}/projects/{done.project_id}/data",
        markup=False,
        soft_wrap=True,
    )
    if done.unchanged:
        console.print(
            f"{done.unchanged} exported tiles were left out: their files are as they were written. "
            "If you have looked at them and they are right, add --unchanged."
        )
