"""Pictures of measurements: how large objects are, and how volumes or conditions differ."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biosegment.disk import explain_full_disk
from biosegment.labels import PALETTE
from biosegment.objects.measurements import Measurements
from biosegment.objects.tables import Experiment

CONDITION: Final = "condition"
"""The column of an experiment that volumes are grouped by."""
_BINS: Final = 24


def plot(measured: Sequence[Measurements], experiment: Experiment | None = None) -> Figure:
    """Return a row a class: the sizes of its objects, their share of the volume, their density.

    Parameters
    ----------
    measured
        Of each volume; classes are matched by name.
    experiment
        Volumes are grouped by its column ``condition``, if it has one.
    """
    groups: dict[str, list[Measurements]] = {}
    for each in measured:
        told = experiment[each.volume] if experiment else {}
        groups.setdefault(told.get(CONDITION, each.volume), []).append(each)
    names = list(dict.fromkeys(name for each in measured for name in each.class_names))
    figure = Figure((11, 3.2 * len(names)), layout="constrained")
    rows = figure.subplots(len(names), 3, squeeze=False)
    for (sizes, shares, densities), name in zip(rows, names, strict=True):
        _draw_sizes(sizes, groups, name)
        percent = {
            group: [100 * _volumes(each, name).sum() / each.extent_um3 for each in members]
            for group, members in groups.items()
        }
        _draw_values(shares, percent, f"{name}: % of the volume")
        density = {
            group: [len(_volumes(each, name)) / each.extent_um3 for each in members]
            for group, members in groups.items()
        }
        _draw_values(densities, density, f"{name}: objects per µm³")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture as PNG: the whole of it, or nothing when this fails.

    Raises
    ------
    DiskFullError
        If the disk is too small.
    """
    partial = path.with_name(f".partial-{path.name}")
    with explain_full_disk(path.parent):
        try:
            figure.savefig(partial, dpi=120)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _volumes(measured: Measurements, name: str) -> npt.NDArray[np.float64]:
    """Return the volumes of the objects of a class, µm³."""
    if name not in measured.class_names:
        return np.empty(0)
    chosen = measured.classes == measured.class_names.index(name) + 1
    volumes: npt.NDArray[np.float64] = measured.volume_um3[chosen]
    return volumes


def _draw_sizes(axes: Axes, groups: dict[str, list[Measurements]], name: str) -> None:
    sizes = {
        group: np.concatenate([_volumes(each, name) for each in members])
        for group, members in groups.items()
    }
    together = np.concatenate(list(sizes.values()))
    axes.set(title=f"{name}: {len(together)} objects", xlabel="volume of an object, µm³")
    axes.set_ylabel("objects")
    if not len(together):
        return
    low, high = together.min(), together.max()
    bins = np.geomspace(low * 0.99, high * 1.01, _BINS).tolist()
    for (group, values), colour in zip(sizes.items(), cycle(PALETTE), strict=False):
        axes.hist(values, bins, histtype="stepfilled", alpha=0.5, color=colour, label=group)
    axes.set_xscale("log")
    if len(sizes) > 1:
        axes.legend(frameon=False)


def _draw_values(axes: Axes, values: dict[str, list[float]], title: str) -> None:
    """Draw a dot a volume, and a line at the mean of each group."""
    for place, (each, colour) in enumerate(zip(values.values(), cycle(PALETTE), strict=False)):
        axes.plot([place] * len(each), each, "o", color=colour)
        axes.hlines(np.mean(each), place - 0.25, place + 0.25, color="black", linewidth=1)
    axes.set_xticks(range(len(values)), list(values), rotation=20, ha="right")
    axes.set(title=title, xlim=(-0.6, len(values) - 0.4))
    axes.set_ylim(bottom=0)
