"""Single objects, cut out of a volume; those too large for memory on a coarser grid."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi

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
    stride: int
    """How many voxels of the volume one of the mask stands for, along each axis."""
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


def object_mask(is_object: Read, box: Roi, most: int = MASK_VOXELS) -> ObjectMask:
    """Return where in a box an object is, coarse enough to have at most `most` voxels.

    Parameters
    ----------
    is_object
        Tells of a region which voxels are part of the object, as bool.
    box
        Around the object.
    most
        Voxels of the mask.
    """
    stride = 1
    while math.prod(_coarse(box.shape, stride)) > most:
        stride += 1
    mask = np.zeros(_coarse(box.shape, stride), bool)
    for region in _regions(box, stride):
        block = _any(is_object(region), stride)
        corner = (region.z - box.z, region.y - box.y, region.x - box.x)
        ends = zip(corner, block.shape, strict=True)
        mask[tuple(slice(at // stride, at // stride + size) for at, size in ends)] = block
    return ObjectMask(box, stride, mask)


def sampled(read: Read, found: ObjectMask) -> npt.NDArray[Any]:
    """Return the values of the volume at the voxels of a mask: the first of each block.

    Returns
    -------
    ndarray, shape ``found.mask.shape`` (z, y, x)
    """
    box, stride = found.box, found.stride
    if stride == 1:
        return read(box)
    planes = [
        read(Roi(z, box.y, box.x, 1, box.height, box.width))[:, ::stride, ::stride]
        for z in range(box.z, box.z + box.depth, stride)
    ]
    return np.concatenate(planes)


def _coarse(shape: Sequence[int], stride: int) -> tuple[int, ...]:
    return tuple(math.ceil(size / stride) for size in shape)


def _regions(box: Roi, stride: int) -> Iterator[Roi]:
    """Yield the parts of a box, of bounded size and each whole voxels of the coarse grid."""
    side = math.ceil(_SIDE / stride) * stride
    height, width = min(box.height, side), min(box.width, side)
    depth = max(1, _READ_VOXELS // (height * width * stride)) * stride
    steps = zip(box.shape, (depth, height, width), strict=True)
    for z, y, x in product(*(range(0, size, step) for size, step in steps)):
        ends = (min(depth, box.depth - z), min(height, box.height - y), min(width, box.width - x))
        yield Roi(box.z + z, box.y + y, box.x + x, *ends)


def _any(block: npt.NDArray[np.bool_], stride: int) -> npt.NDArray[np.bool_]:
    """Return whether any voxel of each cube of `stride` voxels a side is set."""
    if stride == 1:
        return block
    for axis in range(3):
        block = np.logical_or.reduceat(block, range(0, block.shape[axis], stride), axis=axis)
    return block
