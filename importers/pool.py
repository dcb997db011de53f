"""Which tiles of a volume become tasks: a pool that an expert can work through.

A grid covers a region; a draw, at random or stratified, stands for it by fewer tiles.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

import numpy as np

from biosegment.errors import LabelsMismatchError, SettingsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.progress import Progress, ignore
from biosegment.store import VolumeStore
from biosegment.tiles import Tile, grid_tiles, random_tiles
from biosegment.uncertain import most_uncertain
from importers.convert import check_shape
from importers.detect import open_volume

Draw = Literal["grid", "random", "stratified"]
DRAWS: Final[tuple[Draw, ...]] = ("random", "stratified")
"""How so many tiles can be drawn."""

LEAST_INSIDE: Final = 0.5
"""Share of a tile that a mask has to cover."""
_CANDIDATES: Final = 8
_MOST_CANDIDATES: Final = 128
_DEPTH_BINS: Final = 8


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What tiles to take of a volume."""

    tile_px: int = 256
    """Side of a tile, px."""
    overlap_px: int = 0
    """What neighbouring tiles of a grid share, px."""
    draw: Draw = "grid"
    """The grid; tiles at random places; or at random places such that every depth and every
    grey-level contrast of the volume has its share."""
    count: int | None = None
    """Number of tiles; of a grid, all if None."""
    seed: int = 0
    """Of a draw."""
    region: Callable[[Sequence[int]], Roi] = Roi.whole
    """Which part of a volume of a shape (z, y, x) the tiles lie in."""
    mask: Path | None = None
    """A volume file of the same shape: tiles lie, by half at least, where it is above 0."""
    near: tuple[int, int, int] | None = None
    """A voxel (z, y, x): those tiles of the grid that lie nearest to it."""
    most_uncertain: bool = False
    """Those tiles of the grid that a segmentation is least sure of."""
    uncertainty_of: str | None = None
    """Which segmentation, if several know how sure they are."""

    def __post_init__(self) -> None:
        if self.draw != "grid" and self.near is not None:
            raise SettingsError("--near", "takes tiles of the grid: leave out --draw")
        if self.most_uncertain and (self.draw != "grid" or self.near is not None):
            raise SettingsError("--most-uncertain", "goes without --draw and --near")
        chosen = self.draw != "grid" or self.near is not None or self.most_uncertain
        if chosen and self.count is None:
            raise SettingsError("--pool", "must say how many tiles to take")

    def tiles(self, store: VolumeStore, progress: Progress = ignore) -> list[Tile]:
        """Return the tiles of a volume, none twice.

        Parameters
        ----------
        store : VolumeStore
        progress : Progress
            Told the tiles looked at and in all, where their content counts.

        Raises
        ------
        RegionError
            If the region or the point leaves the volume.
        LabelsMismatchError
            If the mask is of another shape, or covers no tile.
        UncertaintyError
            If no segmentation tells what it is unsure of.
        SourceNotFoundError, UnsupportedFormatError, UnreadableFileError
            If the mask cannot be read.
        """
        found = self._chosen(store, progress)
        if not found:
            reason = f"it covers no tile of {self.tile_px} pixels by half"
            raise LabelsMismatchError(str(self.mask), reason)
        return found

    def _chosen(self, store: VolumeStore, progress: Progress) -> list[Tile]:
        region = self.region(store.shape)
        size = (self.tile_px, self.tile_px)
        if self.draw == "grid":
            grid = grid_tiles(store.name, region, size, self.overlap_px)
            found = list(self._inside(store, grid))
            if self.near is not None:
                Roi(*self.near, 1, 1, 1).check_within(store.shape)
                found = nearest(found, self.near, store.voxel_size)
            if self.most_uncertain and found:
                name = self.uncertainty_of
                return most_uncertain(store, found, self.count or 0, name, progress)
            return found[: self.count]
        count = self.count or 0
        wanted = count if self.draw == "random" else _CANDIDATES * count
        found = self._drawn(store, region, wanted)
        if self.draw == "random":
            return found
        return stratified(store, found, count, self.seed, progress)

    def _drawn(self, store: VolumeStore, region: Roi, count: int) -> list[Tile]:
        """Return so many tiles at random places, fewer where there are no more."""
        size = (self.tile_px, self.tile_px)
        if self.mask is None:
            return random_tiles(store.name, region, size, count, self.seed)
        factor = 2
        while True:
            drawn = random_tiles(store.name, region, size, factor * count, self.seed)
            found = list(self._inside(store, drawn))
            if len(found) >= count or len(drawn) < factor * count or factor == _MOST_CANDIDATES:
                break
            factor *= 4
        chosen = np.random.default_rng(self.seed).permutation(len(found))[:count]
        return [found[index] for index in sorted(chosen)]

    def _inside(self, store: VolumeStore, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """Yield the tiles, which are ordered by z, that the mask covers by half at least."""
        if self.mask is None:
            yield from tiles
            return
        with open_volume(self.mask) as mask:
            mask.check_chosen()
            check_shape(mask, store.name, store.shape)
            for z, slice_tiles in groupby(tiles, attrgetter("z")):
                inside = mask.read(Roi.slice_of(store.shape, z))[0] > 0
                for tile in slice_tiles:
                    if inside[tile.roi.slices[1:]].mean() >= LEAST_INSIDE:
                        yield tile


def nearest(
    tiles: Sequence[Tile], point: tuple[int, int, int], voxel_size: VoxelSize | None
) -> list[Tile]:
    """Return tiles ordered by the distance of their centres from a voxel, in nm where known.

    Parameters
    ----------
    tiles : sequence of Tile
    point : (int, int, int)
        A voxel (z, y, x).
    voxel_size : VoxelSize, optional
        None where unknown: then the next slice is as far as the next tile of a row.
    """
    if not tiles:
        return []
    edges = voxel_size.zyx if voxel_size else (float(tiles[0].width), 1.0, 1.0)
    centres = np.array([(t.z, t.y + t.height / 2, t.x + t.width / 2) for t in tiles])
    distances = np.linalg.norm((centres - point) * edges, axis=1)
    return [tiles[index] for index in np.argsort(distances, kind="stable")]


def stratified(
    store: VolumeStore,
    candidates: Sequence[Tile],
    count: int,
    seed: int,
    progress: Progress = ignore,
) -> list[Tile]:
    """Return tiles of all depths and all contrasts: one of each of `count` strata.

    The candidates are sorted into bins of depth, and in each by the standard deviation of their
    grey levels, which tells resin from cytoplasm from membranes; consecutive ones are a stratum.

    Parameters
    ----------
    store : VolumeStore
    candidates : sequence of Tile
        Ordered by z.
    count : int
        All candidates are returned if there are no more.
    seed : int
        Of the choice in each stratum.
    progress : Progress
        Told the candidates looked at and in all.
    """
    if len(candidates) <= count:
        return list(candidates)
    contrasts = np.empty(len(candidates))
    for index, tile in enumerate(candidates):
        contrasts[index] = store.read_unit(tile.roi).std()
        progress(index + 1, len(candidates))
    depths = np.array([tile.z for tile in candidates])
    depths -= depths[0]
    bins = depths * min(_DEPTH_BINS, count) // (depths[-1] + 1)
    order = np.lexsort((contrasts, bins))
    edges = np.arange(count + 1) * len(candidates) // count
    places = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return [candidates[index] for index in sorted(order[places])]
