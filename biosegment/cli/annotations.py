"""``biosegment annotations``."""

import os
from typing import Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.source import Channel, Dataset, Stack, Time
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
    volume: Annotated[
        str | None, typer.Option(help="Which volume of the project, if it has several.")
    ] = None,
    dataset: Dataset = None,
    channel: Channel = None,
    time: Time = None,
) -> None:
    """Annotate a project's tasks by a label volume that was made in another program.

    In a project of one label every value above 0 is that label. Tasks that are annotated already
    stay as they are; tiles are added where the file has labels and the project none.
    """
    from importers.annotations import import_annotations
    from importers.base import Choice
    from importers.label_values import LabelValues

    meaning = LabelValues.parse(values, unknown) if values else LabelValues(unknown=unknown)
    settings = Settings.from_env(connection(os.environ))
    with progress_bar() as report:
        done = import_annotations(
            file,
            project,
            meaning,
            settings,
            report,
            choice=Choice(dataset, channel, time),
            volume=volume,
        )
    console.print(
        f"{done.annotated} tasks annotated, {done.added} of them added; {done.skipped} were "
        f"annotated before: {settings.label_studio_url}/projects/{done.project_id}/data",
        markup=False,
    )
