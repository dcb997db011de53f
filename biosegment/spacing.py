"""How far tiles lie apart: neighbouring slices of a volume are near-duplicates of each other."""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.geometry import VoxelSize
from biosegment.tiles import Tile

MIN_DISTANCE_NM: Final = (250.0, 250.0, 250.0)
"""Along z, y and x: about half the width of a mitochondrion."""
ASSUMED_VOXEL: Final = VoxelSize(50, 5, 5)
"""Stands in where a volume does not know its voxel size: usual for serial sections. With smaller
voxels, tiles are then kept apart by less than the minimum distance, never by more."""


def places(
    tiles: Iterable[Tile | None], voxel_size: Callable[[str], VoxelSize | None]
) -> NDArray[np.float64]:
    """Return where tiles lie.

    Parameters
    ----------
    tiles
        None for one whose place is not known.
    voxel_size
        Tells that of a volume by its name; None where unknown.

    Returns
    -------
    ndarray of float64, shape (N, 4)
        A number that stands for the volume, then the centre of the tile along z, y, x in nm.
        "Not a number" where the place is not known.
    """
    numbers: dict[str, int] = {}
    sizes: dict[str, VoxelSize] = {}
    rows = []
    for tile in tiles:
        if tile is None:
            rows.append([np.nan] * 4)
            continue
        if tile.volume not in sizes:
            numbers[tile.volume] = len(numbers)
            sizes[tile.volume] = voxel_size(tile.volume) or ASSUMED_VOXEL
        centre = (tile.z + 0.5, tile.y + tile.height / 2, tile.x + tile.width / 2)
        rows.append([numbers[tile.volume], *np.multiply(centre, sizes[tile.volume].zyx)])
    return np.array(rows, np.float64).reshape(-1, 4)


def near(
    places: NDArray[np.float64], index: int, min_distance_nm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Return which tiles are too near to tile `index`.

    Parameters
    ----------
    places : ndarray of float64, shape (N, 4)
        As `places` returns them. A tile whose place is not known is near to none.
    index : int
    min_distance_nm
        Along z, y and x; only tiles of one volume that are nearer along all three are too near.

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    gaps = np.abs(places - places[index])
    result: NDArray[np.bool_] = (gaps[:, 0] == 0) & (gaps[:, 1:] < min_distance_nm).all(axis=1)
    return result
