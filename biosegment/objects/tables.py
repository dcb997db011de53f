"""Measurements of objects as tables: a row an object, and a row a class and volume."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from pyarrow.csv import write_csv

from biosegment.disk import explain_full_disk
from biosegment.errors import SettingsError
from biosegment.objects.measurements import Measurements

VOLUME: Final = "volume"
"""The column that names the volume, in all tables."""
Experiment = Mapping[str, Mapping[str, str]]
"""What an experiment says of each volume: values by the names of columns."""


def read_experiment(path: Path, volumes: Sequence[str]) -> Experiment:
    """Return what a table in CSV says of volumes.

    Parameters
    ----------
    path
        Its first line names the columns, one of them ``volume``.
    volumes
        Each has to have a row; others are left out.

    Raises
    ------
    SettingsError
        If it cannot be read, lacks the column or a volume, or has one twice.
    """
    option = "--experiment"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise SettingsError(option, f"is {path}, which cannot be read as CSV: {exc}") from exc
    if not rows or VOLUME not in rows[0]:
        reason = f"is {path}, which needs a column {VOLUME!r} and a row for each volume"
        raise SettingsError(option, reason)
    taken = {*object_columns(None), *CLASS_COLUMNS} - {VOLUME}
    if clash := taken & rows[0].keys():
        raise SettingsError(option, f"has the column {min(clash)!r}, which is measured: rename it")
    found: dict[str, Mapping[str, str]] = {}
    for row in rows:
        if row[VOLUME] in found:
            raise SettingsError(option, f"has two rows for the volume {row[VOLUME]!r}")
        found[row[VOLUME]] = {
            name: value or "" for name, value in row.items() if name not in {VOLUME, None}
        }
    for volume in volumes:
        if volume not in found:
            raise SettingsError(option, f"has no row for the volume {volume!r}")
    return {volume: found[volume] for volume in volumes}


def object_columns(measured: Measurements | None) -> dict[str, Any]:
    """Return what is told of each object, by the names of columns; nothing, for the names alone.

    Parameters
    ----------
    measured
        Of one volume.

    Returns
    -------
    dict
        From names to arrays of shape (objects,).
    """
    names = [
        *("volume", "object", "class", "voxels", "volume_um3", "surface_crofton_um2", "sphericity"),
        *(f"centroid_{axis}_um" for axis in "zyx"),
        *(f"{axis}_{end}" for axis in "zyx" for end in ("from", "to")),
        *("length_um", "width_um", "thickness_um"),
        *(f"direction_{axis}" for axis in "zyx"),
        *("touches_border", "mean_intensity", "centreline_um"),
    ]
    if measured is None:
        return dict.fromkeys(names)
    count = len(measured)
    class_names = np.array(["", *measured.class_names], object)
    centrelines = measured.centreline_um
    columns = [
        np.full(count, measured.volume, object),
        np.arange(1, count + 1),
        class_names[measured.classes],
        measured.voxels,
        measured.volume_um3,
        measured.surface_um2,
        measured.sphericity,
        *measured.centroid_um.T,
        *measured.boxes.reshape(count, 6).T,
        *measured.axes_um.T,
        *measured.direction.T,
        measured.touches_border,
        measured.mean_intensity,
        np.full(count, np.nan) if centrelines is None else centrelines,
    ]
    return dict(zip(names, columns, strict=True))


CLASS_COLUMNS: Final = (
    *("volume", "class", "objects", "volume_um3", "fraction", "objects_per_um3"),
    *("mean_volume_um3", "median_volume_um3", "surface_crofton_um2", "extent_um3"),
)
"""Names of what is told of each class of a volume."""


def class_rows(measured: Measurements) -> list[dict[str, Any]]:
    """Return what is told of each class of a volume: totals, parts of the volume, densities."""
    rows = []
    for value, name in enumerate(measured.class_names, start=1):
        chosen = measured.classes == value
        volumes = measured.volume_um3[chosen]
        count, total = len(volumes), float(volumes.sum())
        values = [
            *(measured.volume, name, count, total, total / measured.extent_um3),
            count / measured.extent_um3,
            float(volumes.mean()) if count else None,
            float(np.median(volumes)) if count else None,
            *(float(measured.surface_um2[chosen].sum()), measured.extent_um3),
        ]
        rows.append(dict(zip(CLASS_COLUMNS, values, strict=True)))
    return rows


def tables(
    measured: Sequence[Measurements], experiment: Experiment | None = None
) -> tuple[pa.Table, pa.Table]:
    """Return the table of objects and that of classes, of all volumes together.

    Parameters
    ----------
    measured
        Of each volume.
    experiment
        Columns to put after the name of the volume.
    """
    objects = pa.concat_tables(
        [
            pa.table({name: pa.array(each, from_pandas=True) for name, each in columns.items()})
            for columns in map(object_columns, measured)
        ],
        promote_options="permissive",
    )
    classes = pa.Table.from_pylist([row for each in measured for row in class_rows(each)])
    return _joined(objects, experiment), _joined(classes, experiment)


def _joined(table: pa.Table, experiment: Experiment | None) -> pa.Table:
    """Return a table with what the experiment says of each row's volume."""
    if not experiment:
        return table
    volumes = table.column(VOLUME).to_pylist()
    for place, name in enumerate(next(iter(experiment.values())), start=1):
        values = pa.array([experiment[volume][name] for volume in volumes], pa.string())
        table = table.add_column(place, name, values)
    return table


def write_tables(folder: Path, named: Mapping[str, pa.Table]) -> list[Path]:
    """Write tables as CSV and as Parquet, all of them or none; replaces what is there.

    Parameters
    ----------
    folder
        Exists.
    named
        Tables by the names of their files, without ending.

    Raises
    ------
    DiskFullError
        If the disk is too small.
    """
    partial: dict[Path, Path] = {}
    with explain_full_disk(folder):
        try:
            for stem, table in named.items():
                for ending in (".csv", ".parquet"):
                    path = folder / f"{stem}{ending}"
                    partial[path] = path.with_name(f".partial-{path.name}")
                    write = write_csv if ending == ".csv" else parquet.write_table
                    write(table, partial[path])
            for path, beside in partial.items():
                beside.replace(path)
        finally:
            for beside in partial.values():
                beside.unlink(missing_ok=True)
    return list(partial)
