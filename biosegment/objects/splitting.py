"""Objects that touch told apart: seeded watershed on the distance to their surface, or on a map.

A seed is a maximum that stands at least a given height above the pass to any higher one [1]_. On
the distance to the surface: a neck parts two halves if its radius is at least that much smaller
than that of the slimmer half.

References
----------
.. [1] P. Soille, Morphological Image Analysis, 2nd ed., chapter 6: h-maxima, and 9: watershed.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

_TOUCHING = np.ones((3, 3, 3), bool)


def distance(mask: npt.NDArray[np.bool_], edges: tuple[float, float, float]) -> npt.NDArray[Any]:
    """Return how far each voxel of an object is from the nearest one outside.

    Beyond the mask nothing is known: an object that is cut off there does not end there.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
    edges : tuple of float
        Edge lengths of a voxel along z, y and x.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        In the unit of `edges`; 0 outside of the object.
    """
    if mask.all():
        # Nothing to be far from.
        return np.ones(mask.shape, np.float32)
    far: npt.NDArray[Any] = ndimage.distance_transform_edt(mask, sampling=edges)
    return far.astype(np.float32)


def split(
    mask: npt.NDArray[np.bool_], height: npt.NDArray[Any], depth: float, min_voxels: int = 1
) -> tuple[npt.NDArray[np.uint32], int]:
    """Return the parts of an object.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        Where the object is.
    height : ndarray of float32, shape (z, y, x)
        High in the middle of parts, low where they meet.
    depth
        How much lower than both parts the pass between them has to be, above 0.
    min_voxels
        What is smaller is no part.

    Returns
    -------
    parts : ndarray of uint32, shape (z, y, x)
        From 1; 0 outside of the object.
    count : int
    """
    inside = np.where(mask, height, 0).astype(np.float32)
    if inside.max() < depth:
        return mask.astype(np.uint32), 1
    # The regional maxima of what is left when every peak is cut down by the depth. The library's
    # h_maxima takes two peaks of the same height for two, however high the pass between them.
    lowered = reconstruction(inside - np.float32(depth), inside, footprint=_TOUCHING)
    seeds, count = ndimage.label(local_maxima(lowered, footprint=_TOUCHING) & mask, _TOUCHING)
    while count > 1:
        parts = watershed(-inside, seeds, connectivity=_TOUCHING, mask=mask)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        if sizes.min() >= min_voxels:
            return parts.astype(np.uint32), count
        # The smallest goes to its neighbours, which may make those that are left large enough.
        seeds[seeds == sizes.argmin() + 1] = 0
        seeds[seeds > sizes.argmin() + 1] -= 1
        count -= 1
    return mask.astype(np.uint32), 1
