"""How undecided the segmentation of a volume is: pixel by pixel, and slice by slice.

Nothing reads more than one slice at a time, of the coarsest level that does.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError

from biosegment import ome_zarr
from biosegment.errors import LabelsNotFoundError, UncertaintyError
from biosegment.geometry import Roi
from biosegment.levels import MAPS, UNCERTAINTY, Level, levels, map_levels, with_map
from biosegment.store import VolumeStore, volume_names, volume_path
from biosegment.tiles import Tile
from biosegment.uncertain import worst

MOST_PX: Final = 1024
"""Rows and columns that are shown at most."""
_BAND_BYTES: Final = 2**24
Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """A part of a slice, in the resolution that suits a page; all of one shape (H, W)."""

    greys: Plane
    """Intensities, black to white of the volume's window."""
    uncertainty: Plane
    """Entropy of the class probabilities, 0 to 255 for none to the largest possible."""
    labels: Plane
    """Values of the label image."""


class UncertainVolume:
    """A volume, one of its segmentations, and the map of how undecided that is."""

    def __init__(self, store: VolumeStore, labels: str, known: Sequence[str]) -> None:
        self.store = store
        self.labels = labels
        """Name of the segmentation."""
        self.known = tuple(known)
        """Names of all segmentations of the volume that have such a map."""
        self._maps = map_levels(store, labels, UNCERTAINTY)

    @classmethod
    def open(cls, data_root: Path, volume: str, labels: str | None) -> Self:
        """Return the segmentation of that name, or the last one if no name is given.

        Raises
        ------
        VolumeNotFoundError, LinkBrokenError
            If the volume cannot be opened.
        UncertaintyError
            If no segmentation of it has a map.
        LabelsNotFoundError
            If that one has none.
        """
        store = VolumeStore.open(data_root, volume)
        known = with_map(store, UNCERTAINTY)
        if not known:
            raise UncertaintyError(store.name, None, known)
        if labels is not None and labels not in known:
            raise LabelsNotFoundError(labels, store.name, known)
        return cls(store, labels or known[-1], known)

    @property
    def step(self) -> int:
        """How many slices a shown one stands for."""
        return self._level(Roi.slice_of(self.store.shape, 0)).factors[0]

    @cached_property
    def profile(self) -> NDArray[np.float64]:
        """Mean uncertainty of slices, each of which stands for one or several, in [0, 1]."""
        folder = self.store.path / "labels" / self.labels
        changed = (folder / "zarr.json").stat().st_mtime_ns
        return np.array(_profile(self.store.path, self.labels, changed))

    def worst_slices(self, count: int) -> list[int]:
        """Return slices of the highest mean uncertainty, at least 250 nm apart, highest first."""
        depth, height, width = self.store.shape
        step = self._maps[-1].factors[0]
        middles = [min(z + step // 2, depth - 1) for z in range(0, depth, step)]
        slices = [Tile(self.store.name, z, 0, 0, height, width) for z in middles]
        return [tile.z for tile in worst(slices, self.profile, count, self.store.voxel_size)]

    def mean(self, tile: Tile) -> float:
        """Return the mean uncertainty of a tile, in [0, 1]."""
        level = self._level(Roi.slice_of(self.store.shape, tile.z))
        return float(level.read(level.showing(tile.roi)).mean()) / 255

    def worst_tiles(self, tiles: Sequence[Tile], count: int) -> list[tuple[Tile, float]]:
        """Return those of the highest mean uncertainty, highest first, with that mean.

        Parameters
        ----------
        tiles
            Of one slice.
        count
            How many; fewer where no more lie at least 250 nm apart.
        """
        whole = Roi.slice_of(self.store.shape, tiles[0].z)
        level = self._level(whole)
        plane = level.read(level.showing(whole))[0]
        parts = [plane[level.showing(tile.roi).slices[1:]] for tile in tiles]
        means = np.array([part.mean() for part in parts]) / 255
        found = worst(tiles, means, count, self.store.voxel_size)
        return [(tile, float(means[tiles.index(tile)])) for tile in found]

    def view(self, region: Roi) -> View:
        """Return what there is to see of a region of one slice, `MOST_PX` high and wide at most.

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        region.check_within(self.store.shape)
        level = self._level(region)
        part = level.showing(region)
        labels = _like(level, levels(self.store, self.labels))
        return View(
            self._greys(level, part, region.z),
            level.read(part)[0],
            cast("Level", labels).read(part)[0],
        )

    def _level(self, region: Roi) -> Level:
        """Return the finest level that shows a region in few enough pixels."""
        small = (each for each in self._maps if max(each.showing(region).shape[1:]) <= MOST_PX)
        return next(small, self._maps[-1])

    def _greys(self, level: Level, part: Roi, z: int) -> Plane:
        """Return the intensities of a part of a level, where need be from the full resolution."""
        known = levels(self.store)
        alike = _like(level, known)
        if alike is not None:
            greys: Plane = self.store.to_display(alike.read(part))[0]
            return greys
        return self._reduced(known[0], level.factors[1:], part, z)

    def _reduced(self, full: Level, factors: tuple[int, int], part: Roi, z: int) -> Plane:
        """Return a part of a slice with each block of pixels averaged; a band is in memory."""
        height, width = full.shape[1:]
        (down, right), left = factors, part.x * factors[1]
        columns = min(width, (part.x + part.width) * right) - left
        rows = max(1, _BAND_BYTES // (columns * down * full.dtype.itemsize))
        bands = []
        edges = [*range(part.y, part.y + part.height, rows), part.y + part.height]
        for first, last in pairwise(edges):
            top = first * down
            band = full.read(Roi(z, top, left, 1, min(height, last * down) - top, columns))
            bands.append(_averaged(self.store.to_display(band)[0], down, right))
        return np.concatenate(bands)


def _like(level: Level, among: Sequence[Level]) -> Level | None:
    return next((each for each in among if each.factors == level.factors), None)


def _averaged(greys: Plane, down: int, right: int) -> Plane:
    """Return the mean of each block; one that is cut off at the edge counts."""
    rows, columns = np.arange(0, greys.shape[0], down), np.arange(0, greys.shape[1], right)
    total = np.add.reduceat(greys, rows, axis=0, dtype=np.uint32)
    total = np.add.reduceat(total, columns, axis=1)
    heights = np.diff([*rows, greys.shape[0]])
    widths = np.diff([*columns, greys.shape[1]])
    mean: Plane = np.rint(total / np.outer(heights, widths)).astype(np.uint8)
    return mean


@lru_cache(maxsize=64)
def _profile(path: Path, labels: str, _changed: int) -> tuple[float, ...]:
    """Return the mean of each slice of the coarsest level; read anew once the labels changed."""
    group = zarr.open_group(path, mode="r")
    array = ome_zarr.image_levels(group, f"labels/{labels}/{MAPS}/{UNCERTAINTY}")[-1]
    planes = (cast("NDArray[Any]", array[z]) for z in range(array.shape[0]))
    return tuple(float(plane.mean()) / 255 for plane in planes)


def uncertain_volumes(data_root: Path) -> dict[int, dict[str, str]]:
    """Return for each project the volumes whose map its models made, and by what labels.

    Returns
    -------
    dict
        Project number -> name of a volume -> name of the labels, those of the latest version.
    """
    found: dict[int, dict[str, tuple[str, str]]] = {}
    for volume in volume_names(data_root):
        for project, version, labels in _sources(volume_path(data_root, volume)):
            known = found.setdefault(project, {})
            known[volume] = max(known.get(volume, ("", "")), (version, labels))
    return {
        project: {volume: labels for volume, (_, labels) in known.items()}
        for project, known in found.items()
    }


def _sources(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the project and version of each map of uncertainty, and the name of its labels."""
    # Not by opening the volume: its intensities may lie elsewhere, and be slow to open.
    with suppress(BaseZarrError, FileNotFoundError, KeyError):
        group = zarr.open_group(path, mode="r")
        for labels in ome_zarr.listed_labels(group):
            if f"labels/{labels}/{MAPS}/{UNCERTAINTY}" in group:
                ours = cast("dict[str, Any]", group[f"labels/{labels}"].attrs["biosegment"])
                source = ours["source"]
                if "project_id" in source:
                    yield source["project_id"], str(source.get("version")), labels
