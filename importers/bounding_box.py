"""The voxel size of a box that spans the centres of the outer voxels, as Amira and MIB write it."""

import math
from collections.abc import Sequence


def box_edges(
    box: Sequence[float], shape: tuple[int, int, int]
) -> tuple[float, float, float] | None:
    """Return the edges (z, y, x) of a voxel in the unit of the box, None if they cannot be true.

    Parameters
    ----------
    box
        Least and greatest x, y and z.
    shape
        Extent (z, y, x) in voxels. An axis of one voxel spans that voxel.
    """
    if len(box) != 6:
        return None
    x, y, z = (
        (high - low) / max(size - 1, 1)
        for low, high, size in zip(box[::2], box[1::2], shape[::-1], strict=True)
    )
    return (z, y, x) if all(0 < edge < math.inf for edge in (z, y, x)) else None
