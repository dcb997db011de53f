"""``biosegment measure``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from biosegment.cli.console import console, progress_bar
from biosegment.cli.only_labels import only_labels
from biosegment.errors import SettingsError
from biosegment.settings import Settings
from biosegment.stack import connection
from biosegment.store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from biosegment.objects.measurements import Measurements

_FILES = ("objects.csv", "objects.parquet", "classes.csv", "classes.parquet", "measurements.png")


def measure(
    volumes: Annotated[list[str], typer.Argument(help="Names of volumes in the data folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write the tables and the picture into.")],
    labels: Annotated[
        str | None, typer.Option(help="Which objects; can be left out for the only ones.")
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(help="CSV with a column 'volume' and what else is known: sample, condition."),
    ] = None,
    lengths: Annotated[
        bool,
        typer.Option("--lengths", help="Measure how long objects are along their middle, too."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Measure the objects of volumes: sizes, shapes, densities, as CSV, Parquet and a picture."""
    from biosegment.objects.measurements import measure as measured
    from biosegment.objects.plots import plot, save
    from biosegment.objects.tables import read_experiment, tables, write_tables

    data_root = Settings.from_env(connection(os.environ)).data_root
    stores = [VolumeStore.open(data_root, name) for name in dict.fromkeys(volumes)]
    chosen = [labels or only_labels(store, objects=True) for store in stores]
    told = read_experiment(experiment, [store.name for store in stores]) if experiment else None
    _check_out(out, force)
    with progress_bar() as report:
        found = [
            measured(store, name, report, centrelines=lengths)
            for store, name in zip(stores, chosen, strict=True)
        ]
    objects, classes = tables(found, told)
    written = write_tables(out, {"objects": objects, "classes": classes})
    picture = out / _FILES[-1]
    save(plot(found, told), picture)
    _show(found)
    for path in [*written, picture]:
        console.print(f"{path} written", markup=False, soft_wrap=True)


def _check_out(out: Path, force: bool) -> None:
    from exporters.write import make_folder

    make_folder(out)
    there = [name for name in _FILES if (out / name).exists()]
    if there and not force:
        raise SettingsError("--out", f"has {there[0]} already, which --force replaces")


def _show(found: "Sequence[Measurements]") -> None:
    from biosegment.objects.tables import class_rows

    table = Table(box=None, header_style="bold")
    for column in ("volume", "class"):
        table.add_column(column, overflow="fold")
    for column in ("objects", "µm³ in all", "% of the volume", "objects per µm³", "median µm³"):
        table.add_column(column, justify="right")
    for row in (row for each in found for row in class_rows(each)):
        median = row["median_volume_um3"]
        table.add_row(
            *(escape(row["volume"]), escape(row["class"]), str(row["objects"])),
            *(f"{row['volume_um3']:.4g}", f"{100 * row['fraction']:.3g}"),
            *(f"{row['objects_per_um3']:.3g}", "-" if median is None else f"{median:.3g}"),
        )
    console.print(table)
