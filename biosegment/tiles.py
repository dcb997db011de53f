"""Tiles: the windows of single slices that experts paint in, and where their images lie.

A tile knows nothing but its place; tasks carry that place, so no table maps tiles to tasks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from biosegment.geometry import Roi, VoxelSize

TILES: Final = "tiles"
"""Folder of the data root that holds the images of all tiles: what Label Studio may serve."""
SPREAD: Final = 20
"""Tiles that are labelled first, spread over the volume: the paper's initial labels (m)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of one slice of a volume."""

    volume: str
    """Name of the volume in the data root."""
    z: int
    """Slice, from 0."""
    y: int
    """First row, from 0."""
    x: int
    """First column, from 0."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""

    @property
    def roi(self) -> Roi:
        """The tile as a region of depth 1."""
        return Roi(self.z, self.y, self.x, 1, self.height, self.width)

    def at(self, z: int) -> "Tile":
        """Return the tile at the same place of slice `z`."""
        return replace(self, z=z)


def tile_image_path(tile: Tile) -> PurePosixPath:
    """Return where the tile's PNG lies, relative to the data root."""
    size = f"{tile.height}x{tile.width}"
    return PurePosixPath(TILES, tile.volume, size, f"z{tile.z:05}_y{tile.y:06}_x{tile.x:06}.png")


def context_tiles(tile: Tile, context: int, depth: int) -> list[Tile]:
    """Return the tile with up to `context` neighbours on either side, in z order.

    Parameters
    ----------
    tile
        The one in the middle; neighbours beyond the volume's first or last slice are left out.
    context
        Slices on either side.
    depth
        Number of slices of the volume.
    """
    return [tile.at(z) for z in range(max(0, tile.z - context), min(depth, tile.z + context + 1))]


def grid_tiles(
    volume: str, region: Roi, size_yx: tuple[int, int], overlap_px: int = 0
) -> Iterator[Tile]:
    """Yield tiles that cover a region, slice by slice and row by row.

    All tiles have one size. The last row and column are shifted inwards to end at the region's
    edge; where the region is smaller than a tile, the tile shrinks to the region.

    Parameters
    ----------
    volume
        Name of the volume.
    region
        What to cover.
    size_yx
        Rows and columns of a tile, px.
    overlap_px
        What neighbouring tiles share at least, px; less than either side of a tile.

    Raises
    ------
    ValueError
        If the size or the overlap leaves no step forward.
    """
    height, width = _fit(region, size_yx)
    rows = _starts(region.y, region.height, height, overlap_px)
    columns = _starts(region.x, region.width, width, overlap_px)
    for z in range(region.z, region.z + region.depth):
        for y in rows:
            for x in columns:
                yield Tile(volume, z, y, x, height, width)


def random_tiles(
    volume: str, region: Roi, size_yx: tuple[int, int], count: int, seed: int
) -> list[Tile]:
    """Return distinct tiles drawn uniformly from all places in a region, ordered by z, y, x.

    Where the region is smaller than a tile, the tile shrinks to the region.

    Parameters
    ----------
    volume
        Name of the volume.
    region
        Where the tiles may lie.
    size_yx
        Rows and columns of a tile, px.
    count
        How many; fewer are returned where the region has fewer places.
    seed
        The same seed draws the same tiles.
    """
    height, width = _fit(region, size_yx)
    places = (region.depth, region.height - height + 1, region.width - width + 1)
    total = math.prod(places)
    drawn = np.random.default_rng(seed).choice(
        total, size=min(count, total), replace=False, shuffle=False
    )
    return [
        Tile(volume, region.z + int(z), region.y + int(y), region.x + int(x), height, width)
        for z, y, x in zip(*np.unravel_index(np.sort(drawn), places), strict=True)
    ]


def spread(tiles: Sequence[Tile], voxel_size: VoxelSize | None, count: int = SPREAD) -> list[int]:
    """Return which tiles to label first, so that any number of them is spread over the volume.

    The first is the one nearest to the middle, then always the one whose centre is farthest from
    the nearest centre chosen before; of several, the first. This farthest-first traversal leaves
    no tile farther from a chosen one than twice what the best choice of as many could.

    Parameters
    ----------
    tiles
        Tiles of one volume, N of them, none twice.
    voxel_size
        Distances are in nm. None where unknown: then each axis is measured by the extent of the
        tiles along it, so that a thin stack is spread along z as well as a thick one.
    count
        How many to choose, k; all if there are fewer.

    Returns
    -------
    list of int
        Indices of the chosen tiles, in the order of labelling. Found in O(k N) time, with 80 bytes
        a tile.

    References
    ----------
    T. Gonzalez: Clustering to minimize the maximum intercluster distance. Theoretical Computer
    Science 38, 1985, 293-306, https://doi.org/10.1016/0304-3975(85)90224-5
    """
    if not tiles:
        return []
    axes = (
        (tile.z for tile in tiles),
        (tile.y + tile.height / 2 for tile in tiles),
        (tile.x + tile.width / 2 for tile in tiles),
    )
    centres = np.stack([np.fromiter(axis, np.float64, len(tiles)) for axis in axes], axis=1)
    low, high = centres.min(axis=0), centres.max(axis=0)
    centres -= (low + high) / 2
    if voxel_size is None:
        centres /= np.where(high > low, high - low, 1)
    else:
        centres *= voxel_size.zyx
    chosen = [int(np.argmin(np.einsum("ij,ij->i", centres, centres)))]
    gaps = np.full(len(tiles), np.inf)
    while len(chosen) < min(count, len(tiles)):
        step = centres - centres[chosen[-1]]
        np.minimum(gaps, np.einsum("ij,ij->i", step, step), out=gaps)
        chosen.append(int(np.argmax(gaps)))
    return chosen


def _fit(region: Roi, size_yx: tuple[int, int]) -> tuple[int, int]:
    return min(size_yx[0], region.height), min(size_yx[1], region.width)


def _starts(first: int, length: int, size: int, overlap_px: int) -> list[int]:
    last = first + length - size
    if last > first and not 0 <= overlap_px < size:
        raise ValueError(f"an overlap of {overlap_px} px leaves no step between tiles of {size} px")
    step = max(1, size - overlap_px)
    return [*range(first, last, step), last]
