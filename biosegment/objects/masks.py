"""Single objects, cut out of a volume; those too large for memory on a coarser grid."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi, VoxelSize

MASK_VOXELS: Final = 2**25
"""Voxels of an object's box in memory at a time."""
_READ_VOXELS: Final = 2**24
_SIDE: Final = 2**12
Read: TypeAlias = Callable[[Roi], npt.NDArray[Any]]
"""Returns the values of a region, of its shape (z, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMask:
    """Where in its box an object is."""

    box: Roi
    """In voxels of the volume."""
    strides: tuple[int, int, int]
    """How many voxels of the volume one of the mask stands for, along z, y and x."""
    mask: npt.NDArray[np.bool_]
    """Shape (z, y, x): whether any of those voxels is part of the object."""


def box_around(ends: npt.NDArray[np.int64], shape: Sequence[int]) -> Roi:
    """Return a box and one voxel around it, as far as the volume goes.

    Parameters
    ----------
    ends : ndarray of int64, shape (3, 2)
        From and to along z, y and x.
    shape
        Extent (z, y, x) of the volume.
    """
    low = np.maximum(ends[:, 0] - 1, 0)
    high = np.minimum(ends[:, 1] + 1, shape)
    return Roi(*low.tolist(), *(high - low).tolist())


def object_mask(
    is_object: Read, box: Roi, voxel_size: VoxelSize | None, most: int = MASK_VOXELS
) -> ObjectMask:
    """Return where in a box an object is, coarse enough to have at most `most` voxels.

    Parameters
    ----------
    is_object
        Tells of a region which voxels are part of the object, as bool.
    box
        Around the object.
    voxel_size
        What is coarser becomes more like a cube; None where unknown.
    most
        Voxels of the mask.
    """
    strides = strides_for(box.shape, voxel_size, most)
    mask = np.zeros(_coarse(box.shape, strides), bool)
    for region in _regions(box, strides):
        block = _any(is_object(region), strides)
        corner = (region.z - box.z, region.y - box.y, region.x - box.x)
        ends = zip(corner, strides, block.shape, strict=True)
        mask[tuple(slice(at // step, at // step + size) for at, step, size in ends)] = block
    return ObjectMask(box, strides, mask)


def strides_for(
    shape: Sequence[int], voxel_size: VoxelSize | None, most: int
) -> tuple[int, int, int]:
    """Return how many voxels along z, y and x make one, such that at most `most` are left.

    Examples
    --------
    >>> strides_for((10, 1000, 1000), VoxelSize(40, 5, 4), 10 * 500 * 500)
    (1, 2, 2)
    """
    edges = voxel_size.zyx if voxel_size else (1.0, 1.0, 1.0)
    strides = [1, 1, 1]
    while math.prod(_coarse(shape, strides)) > most:
        lengths = [
            edge * stride if stride < extent else math.inf
            for edge, stride, extent in zip(edges, strides, shape, strict=True)
        ]
        strides[lengths.index(min(lengths))] += 1
    z, y, x = strides
    return (z, y, x)


def sampled(read: Read, found: ObjectMask) -> npt.NDArray[Any]:
    """Return the values of the volume at the voxels of a mask: the first of each block.

    Returns
    -------
    ndarray, shape ``found.mask.shape`` (z, y, x)
    """
    box, (deep, *sides) = found.box, found.strides
    planes = [
        read(Roi(z, box.y, box.x, 1, box.height, box.width))[:, :: sides[0], :: sides[1]]
        for z in range(box.z, box.z + box.depth, deep)
    ]
    return np.concatenate(planes)


def _coarse(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.ceil(size / stride) for size, stride in zip(shape, strides, strict=True))


def _regions(box: Roi, strides: Sequence[int]) -> Iterator[Roi]:
    """Yield the parts of a box, of bounded size and each whole voxels of the coarse grid."""
    deep, *sides = strides
    height, width = (
        min(size, math.ceil(_SIDE / stride) * stride)
        for size, stride in zip(box.shape[1:], sides, strict=True)
    )
    depth = max(1, _READ_VOXELS // (height * width * deep)) * deep
    steps = zip(box.shape, (depth, height, width), strict=True)
    for z, y, x in product(*(range(0, size, step) for size, step in steps)):
        ends = (min(depth, box.depth - z), min(height, box.height - y), min(width, box.width - x))
        yield Roi(box.z + z, box.y + y, box.x + x, *ends)


def _any(block: npt.NDArray[np.bool_], strides: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return whether any voxel of each block of `strides` voxels is set."""
    for axis, stride in enumerate(strides):
        if stride > 1:
            starts = range(0, block.shape[axis], stride)
            block = np.logical_or.reduceat(block, starts, axis=axis)
    return block
