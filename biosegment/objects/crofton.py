"""Surface areas by the Crofton formula: from how often lines of voxels enter and leave an object.

A surface is crossed by lines in proportion to its area, whatever its shape [1]_. Lines run in 13
directions, to all neighbours of a voxel; each direction counts as much as the part of the sphere
that is nearer to it than to the others, so that voxels need not be cubes [2]_.

References
----------
.. [1] L. A. Santaló, Integral Geometry and Geometric Probability, 1976, chapter 14.
.. [2] G. Lehmann, D. Legland, Efficient N-Dimensional surface estimation using Crofton formula and
   run-length encoding, Insight Journal, 2012.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial import SphericalVoronoi

from biosegment.geometry import VoxelSize

Step: TypeAlias = tuple[int, int, int]
"""Along z, y and x, each -1, 0 or 1."""
_ALONG: Final = (-1, 0, 1)
STEPS: Final[list[Step]] = [step for step in product(_ALONG, _ALONG, _ALONG) if step > (0, 0, 0)]
"""The 13 directions: of each two opposite ones, that which leads on."""


def areas_per_crossing(voxel_size: VoxelSize) -> dict[Step, float]:
    """Return how much area, in µm², each crossing of a line stands for, by direction.

    Parameters
    ----------
    voxel_size : VoxelSize

    Returns
    -------
    dict
        From each of :data:`STEPS` to an area: the surface of an object is the sum over all pairs of
        voxels a step apart of which one alone is part of it.
    """
    edges = np.array(voxel_size.zyx) / 1000
    vectors = np.array(STEPS) * edges
    lengths = np.linalg.norm(vectors, axis=1)
    units = vectors / lengths[:, None]
    shares = SphericalVoronoi(np.concatenate([units, -units])).calculate_areas()
    weights = (shares[: len(STEPS)] + shares[len(STEPS) :]) / (4 * np.pi)
    areas = 2 * np.prod(edges) * weights / lengths
    return dict(zip(STEPS, areas.tolist(), strict=True))


def crossings(
    numbers: npt.NDArray[np.int32], inner: tuple[slice, slice, slice]
) -> Iterator[tuple[Step, npt.NDArray[np.int32]]]:
    """Yield, for each direction, the numbers of the objects that a line enters or leaves.

    Parameters
    ----------
    numbers : ndarray of int32, shape (z, y, x)
        Which object each voxel is part of; 0 for none.
    inner
        Where lines step from; they may step to all of `numbers`, and not beyond.

    Yields
    ------
    step : tuple of int
        One of :data:`STEPS`.
    objects : ndarray of int32, shape (C,)
        A number for each time.
    """
    for step in STEPS:
        here, there = [], []
        for part, move, size in zip(inner, step, numbers.shape, strict=True):
            start, stop = max(part.start, -move), min(part.stop, size - max(move, 0))
            here.append(slice(start, stop))
            there.append(slice(start + move, stop + move))
        one, other = numbers[tuple(here)], numbers[tuple(there)]
        differ = one != other
        found = np.concatenate([one[differ], other[differ]])
        yield step, found[found > 0]
