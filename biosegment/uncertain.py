"""The tiles of a volume that its segmentation is least sure of."""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from biosegment.errors import UncertaintyError
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import UNCERTAINTY, Level, map_levels, with_map
from biosegment.progress import Progress, ignore
from biosegment.spacing import MIN_DISTANCE_NM, near, places
from biosegment.store import VolumeStore
from biosegment.tiles import Tile

_LEAST_PX: Final = 16


def most_uncertain(
    store: VolumeStore,
    tiles: Sequence[Tile],
    count: int,
    labels: str | None = None,
    progress: Progress = ignore,
) -> list[Tile]:
    """Return the tiles of the highest mean uncertainty, no two of them from one place.

    The highest comes first, then always the highest of those that lie at least 250 nm from all
    before along z, y or x: neighbouring slices show nearly the same.

    Parameters
    ----------
    store
        The volume.
    tiles
        To choose from, ordered by z.
    count
        How many; fewer where no more lie far enough apart.
    labels
        The segmentation; None for the only one that kept its uncertainty.
    progress
        Told the tiles looked at and in all.

    Raises
    ------
    UncertaintyError
        If there is no such segmentation, or several and none was chosen.
    """
    known = with_map(store, UNCERTAINTY)
    if labels not in known and (labels is not None or len(known) != 1):
        raise UncertaintyError(store.name, labels, known)
    level = _suitable(map_levels(store, labels or known[0], UNCERTAINTY), tiles)
    means = _means(level, tiles, progress)
    return worst(tiles, means, count, store.voxel_size)


def worst(
    tiles: Sequence[Tile],
    means: npt.NDArray[np.float64],
    count: int,
    voxel_size: VoxelSize | None,
) -> list[Tile]:
    """Return the tiles of the highest means, no two of them from one place.

    Parameters
    ----------
    tiles
        Of one volume, N of them.
    means : ndarray of float64, shape (N,)
        Mean uncertainty of each.
    count
        How many; fewer where no more lie at least 250 nm apart along z, y or x.
    voxel_size
        Of the volume; None where unknown.
    """
    where = places(tiles, lambda _: voxel_size)
    chosen: list[Tile] = []
    free = np.ones(len(tiles), bool)
    for index in np.argsort(-means, kind="stable").tolist():
        if len(chosen) == count:
            break
        if free[index]:
            chosen.append(tiles[index])
            free &= ~near(where, index, MIN_DISTANCE_NM)
    return chosen


def _suitable(levels: Sequence[Level], tiles: Sequence[Tile]) -> Level:
    """Return the coarsest level that still shows every slice, and some pixels of a tile."""
    side = min(min(tile.height, tile.width) for tile in tiles)
    return next(
        level
        for level in reversed(levels)
        if level.factors == (1, 1, 1)
        or (level.factors[0] == 1 and side // max(level.factors) >= _LEAST_PX)
    )


def _means(level: Level, tiles: Sequence[Tile], progress: Progress) -> npt.NDArray[np.float64]:
    """Return the mean of each tile; a slice of the level at a time is in memory."""
    means: list[float] = []
    for z, together in groupby(tiles, attrgetter("z")):
        plane = level.read(Roi.slice_of(level.shape, z))[0]
        for tile in together:
            roi = level.showing(tile.roi)
            means.append(float(plane[roi.slices[1:]].mean()))
        progress(len(means), len(tiles))
    return np.array(means)
