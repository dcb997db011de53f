"""The resolutions in which a volume and its label images can be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr

from biosegment import ome_zarr
from biosegment.errors import LabelsNotFoundError
from biosegment.geometry import Roi, VoxelSize
from biosegment.linked import LinkedArray
from biosegment.store import VolumeStore

MAPS: Final = "maps"
"""Group of a label image that holds images which belong to it, such as its uncertainty."""
UNCERTAINTY: Final = "uncertainty"
"""Map of the entropy of the class probabilities: 0 to 255 for none to the largest possible."""
_FULL = (1, 1, 1)


def probability_map(class_name: str) -> str:
    """Return what the map of a class's probability is called: paths do not take all characters."""
    return "probability-" + "".join(c if c.isalnum() else "-" for c in class_name)


@dataclass(frozen=True, slots=True)
class Level:
    """Intensities or label values in one resolution."""

    array: zarr.Array[Any] | LinkedArray
    """Its voxels (z, y, x) on disk."""
    factors: tuple[int, int, int]
    """By how much it is coarser than the full resolution along z, y and x."""
    voxel_size: VoxelSize | None
    """Of this resolution; None where unknown."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in its own voxels."""
        return cast("tuple[int, int, int]", self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of its values."""
        return self.array.dtype

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the values of a region in its own voxels, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        roi.check_within(self.shape)
        return cast("npt.NDArray[Any]", self.array[roi.slices])

    def showing(self, region: Roi) -> Roi:
        """Return its voxels that show a region of the full resolution, if only a part of it.

        Examples
        --------
        >>> level = Level(np.zeros((4, 10, 10)), (1, 2, 2), None)
        >>> str(level.showing(Roi(0, 3, 4, 2, 4, 4)))
        '0:2,1:4,2:4'
        """
        pairs = list(zip(region.slices, self.factors, strict=True))
        starts = [part.start // factor for part, factor in pairs]
        stops = [math.ceil(part.stop / factor) for part, factor in pairs]
        return Roi(*starts, *(stop - start for start, stop in zip(starts, stops, strict=True)))


def levels(store: VolumeStore, labels: str | None = None) -> list[Level]:
    """Return all resolutions of a volume, the full one first.

    Parameters
    ----------
    store
        A linked volume has intensities in full resolution only.
    labels
        Name of a label image; None for the intensities.

    Raises
    ------
    LabelsNotFoundError
        If there is no finished label image of that name.
    """
    if labels is None and isinstance(store.image, LinkedArray):
        return [Level(store.image, _FULL, store.voxel_size)]
    if labels is not None and labels not in store.label_names:
        raise LabelsNotFoundError(labels, store.name, store.label_names)
    return _levels_of(store, f"labels/{labels}" if labels else "")


def map_levels(store: VolumeStore, labels: str, which: str) -> list[Level]:
    """Return all resolutions of a map that belongs to a label image, the full one first.

    Raises
    ------
    KeyError
        If there is none.
    """
    return _levels_of(store, f"labels/{labels}/{MAPS}/{which}")


def map_names(store: VolumeStore, labels: str) -> tuple[str, ...]:
    """Return the names of the maps that belong to a label image.

    Raises
    ------
    LabelsNotFoundError
        If there is no finished label image of that name.
    """
    if labels not in store.label_names:
        raise LabelsNotFoundError(labels, store.name, store.label_names)
    group = cast("zarr.Group", zarr.open_group(store.path, mode="r")[f"labels/{labels}"])
    return tuple(sorted(cast("zarr.Group", group[MAPS]).group_keys())) if MAPS in group else ()


def with_map(store: VolumeStore, which: str) -> tuple[str, ...]:
    """Return the names of the finished label images that have a map."""
    group = zarr.open_group(store.path, mode="r")
    return tuple(name for name in store.label_names if f"labels/{name}/{MAPS}/{which}" in group)


def _levels_of(store: VolumeStore, path: str) -> list[Level]:
    group = zarr.open_group(store.path, mode="r")
    arrays = ome_zarr.image_levels(group, path)
    return [
        Level(array, factors, _coarser(store.voxel_size, factors))
        for array, factors in zip(arrays, ome_zarr.image_factors(group, path), strict=True)
    ]


def _coarser(size: VoxelSize | None, factors: Sequence[int]) -> VoxelSize | None:
    if size is None:
        return None
    return VoxelSize(*(edge * factor for edge, factor in zip(size.zyx, factors, strict=True)))


def label_colours(store: VolumeStore, name: str) -> dict[int, str]:
    """Return the colours, ``#rrggbb``, of those values of a label image that have one."""
    group = zarr.open_group(store.path, mode="r")
    return ome_zarr.label_colours(group, f"labels/{name}")
