"""How long objects are: along the line through their middle, from one end to the other.

The ends are the two voxels farthest from each other inside the object; the line is the cheapest
way between them where a step costs the more the nearer it is to the surface [1]_. Thinning was
tried instead: scikit-image's shrinks a rod that is an even number of voxels thick to one voxel.

References
----------
.. [1] M. Sato, I. Bitter, M. A. Bender, A. E. Kaufman, M. Nakajima, TEASAR: tree-structure
   extraction algorithm for accurate and robust skeletons, Pacific Graphics 2000.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.graph import MCP_Geometric

from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import Level
from biosegment.objects.masks import box_around, object_mask
from biosegment.objects.splitting import distance
from biosegment.progress import Report

_OUTSIDE: Final = -1.0
"""What no way leads through, as a cost."""
_CENTRED: Final = 8
"""How strongly a way keeps to the middle: the power of the distance to the surface."""
_SMOOTHED_STEPS: Final = 3
"""Steps from voxel to voxel are averaged over about so many, for they go in 26 directions only."""


def lengths(
    level: Level, boxes: npt.NDArray[np.int64], voxel_size: VoxelSize, report: Report
) -> npt.NDArray[np.float64]:
    """Return the lengths of the objects of a label image.

    Parameters
    ----------
    level
        The label image in full resolution.
    boxes : ndarray of int64, shape (objects + 1, 3, 2)
        From and to along z, y and x, of each number.
    voxel_size : VoxelSize
    report
        Told of progress.

    Returns
    -------
    ndarray of float64, shape (objects,)
        In µm.
    """
    found = np.zeros(len(boxes) - 1)
    for number in range(1, len(boxes)):

        def is_object(region: Roi, number: int = number) -> npt.NDArray[np.bool_]:
            mask: npt.NDArray[np.bool_] = level.read(region) == number
            return mask

        cut = object_mask(is_object, box_around(boxes[number], level.shape), voxel_size)
        z, y, x = (
            step * edge / 1000 for step, edge in zip(cut.strides, voxel_size.zyx, strict=True)
        )
        found[number - 1] = centreline_length(cut.mask, (z, y, x))
        report("measuring lengths", number, len(found))
    return found


def centreline_length(mask: npt.NDArray[np.bool_], edges: tuple[float, float, float]) -> float:
    """Return the length of the line through the middle of an object.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Not empty.
    edges : tuple of float
        Edge lengths of a voxel along z, y and x.

    Returns
    -------
    float
        In the unit of `edges`; 0 for one voxel.
    """
    one_end = _farthest(mask, edges, tuple(np.argwhere(mask)[0]))
    other_end = _farthest(mask, edges, one_end)
    depth = distance(mask, edges)[mask]
    cost = np.full(mask.shape, _OUTSIDE)
    cost[mask] = (depth.max() / depth) ** _CENTRED
    ways = MCP_Geometric(cost, sampling=edges)
    ways.find_costs([one_end], [other_end])
    line = np.array(ways.traceback(other_end)) * edges
    smooth = ndimage.gaussian_filter1d(line, _SMOOTHED_STEPS, axis=0, mode="nearest")
    smooth[[0, -1]] = line[[0, -1]]
    return float(np.linalg.norm(np.diff(smooth, axis=0), axis=1).sum())


def _farthest(
    mask: npt.NDArray[np.bool_], edges: tuple[float, float, float], start: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return the voxel of an object that is farthest from another, on ways inside it."""
    cost = np.where(mask, 1.0, _OUTSIDE)
    far, _ = MCP_Geometric(cost, sampling=edges).find_costs([start])
    far[~np.isfinite(far)] = _OUTSIDE
    return tuple(int(at) for at in np.unravel_index(far.argmax(), far.shape))
