"""Coarser resolution levels of an image, each made of the one before.

Every level halves rows and columns, and slices too where they lie closer than twice the distance
of rows, so that voxels become more alike along the axes, never less. Intensities are averaged;
labels keep the first value of each block, for a mean of two labels is a third one.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr

from biosegment.geometry import VoxelSize

COARSEST_PX: Final = 512
"""Rows and columns that the coarsest level has at most."""
_BAND_BYTES: Final = 2**28


def level_factors(shape: Sequence[int], voxel_size: VoxelSize | None) -> list[tuple[int, int, int]]:
    """Return by how much each level is coarser than the full resolution along z, y and x.

    Parameters
    ----------
    shape : sequence of int
        Extent (z, y, x) of the full resolution.
    voxel_size : VoxelSize, optional
        None where unknown: then slices are left alone.

    Returns
    -------
    list of (int, int, int)
        The first is (1, 1, 1); at least one.
    """
    factors = [(1, 1, 1)]
    while max(shape[1] / factors[-1][1], shape[2] / factors[-1][2]) > COARSEST_PX:
        z, y, x = factors[-1]
        close = voxel_size is not None and z * voxel_size.z < 2 * y * voxel_size.y
        deep = shape[0] / z > 1
        factors.append((2 * z if close and deep else z, 2 * y, 2 * x))
    return factors


def level_shape(shape: Sequence[int], factors: Sequence[int]) -> tuple[int, int, int]:
    """Return the extent (z, y, x) of a level: a block that is cut off at the edge counts."""
    z, y, x = (math.ceil(size / factor) for size, factor in zip(shape, factors, strict=True))
    return (z, y, x)


def steps(levels: Sequence[zarr.Array[Any]]) -> list[tuple[int, int]]:
    """Return what there is to :func:`build`, in order: the number of a level and a slice of it."""
    return [(number, z) for number in range(1, len(levels)) for z in range(levels[number].shape[0])]


def build(levels: Sequence[zarr.Array[Any]], number: int, z: int, *, labels: bool) -> None:
    """Make slice `z` of level `number` of the level before.

    Rows pass in bands, so that a slice of any size takes a quarter of a gigabyte.

    Parameters
    ----------
    levels : sequence of zarr.Array
        From the full resolution on, each (z, y, x).
    number : int
        From 1.
    z : int
        From 0.
    labels : bool
        Keep one value of each block instead of the mean.
    """
    fine, coarse = levels[number - 1], levels[number]
    deep = 1 if fine.shape[0] == coarse.shape[0] else 2
    for rows in _bands(coarse):
        block = np.asarray(fine[deep * z : deep * (z + 1), 2 * rows.start : 2 * rows.stop])
        coarse[z : z + 1, rows] = coarser(block, labels=labels)[None]


def coarser(block: npt.NDArray[Any], *, labels: bool) -> npt.NDArray[Any]:
    """Return a slice of the next level: half the rows and columns, what is odd at the edge counts.

    Parameters
    ----------
    block : ndarray, shape (z, y, x)
        Of the level before; one slice, or two that become one.
    labels : bool
        Keep the first value of each block instead of the mean, whose halves go up.
    """
    return block[0, ::2, ::2] if labels else _mean(block)


def _bands(level: zarr.Array[Any]) -> Iterator[slice]:
    """Yield rows of a level that together are whole shards and of bounded size."""
    shard = (level.shards or level.chunks)[1]
    row_bytes = 8 * level.shape[2] * level.dtype.itemsize
    step = max(1, _BAND_BYTES // (row_bytes * shard)) * shard
    edges = [*range(0, level.shape[1], step), level.shape[1]]
    yield from (slice(low, high) for low, high in pairwise(edges))


def _mean(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mean over all slices, one or two, of two rows and two columns; halves go up."""
    odd = [(0, 0), *((0, size % 2) for size in block.shape[1:])]
    block = np.pad(block, odd, mode="edge") if any(after for _, after in odd) else block
    wide = _wide(block.dtype)
    total = np.zeros((block.shape[1] // 2, block.shape[2] // 2), wide)
    for plane in block:
        rows = plane[0::2].astype(wide)
        rows += plane[1::2]
        total += rows[:, 0::2]
        total += rows[:, 1::2]
    bits = 2 if len(block) == 1 else 3
    if block.dtype.kind == "f":
        return (total / (1 << bits)).astype(block.dtype)
    total += 1 << (bits - 1)
    return (total >> bits).astype(block.dtype)


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type that holds the sum of eight values."""
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    return np.dtype(f"{dtype.kind}{min(8, 2 * dtype.itemsize)}")
