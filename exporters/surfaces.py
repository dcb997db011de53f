"""Surfaces of the values of a label image, each in memory by itself.

A first pass finds the box around each value; then the boxes are read one by one. A surface is that
of marching cubes [1]_ at the borders of voxels, where voxels that share an edge or a corner touch.
It is closed, also where the volume cuts it off. Its steps are smoothed [2]_, so little that even a
single voxel stays visible. Objects whose box has more than 2^27 voxels are seen on a coarser grid,
one voxel of which belongs to the object if any voxel in it does.

References
----------
.. [1] T. Lewiner et al., Journal of Graphics Tools 8(2), 2003, as scikit-image has it.
.. [2] G. Taubin, SIGGRAPH 1995, section 4: lambda 0.5, mu -0.53. Here in units of voxels, and no
   point moves by more than a fifth of a voxel along an axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from skimage.measure import marching_cubes

from biosegment.geometry import Roi, VoxelSize
from biosegment.objects.masks import object_mask
from exporters.base import LabelClass, Layer
from exporters.extents import bounding_boxes
from exporters.object_colours import object_colour

MOST_VOXELS = 2**27
"""Of the grid on which an object is seen."""
_NM_PER_UM = 1000
_NO_SIZE = VoxelSize(_NM_PER_UM, _NM_PER_UM, _NM_PER_UM)
# Below a half, all of two voxels that touch at an edge is one surface; at a half, some would cross.
_INSIDE = 0.4
_STEPS, _SHRINK, _GROW = 10, 0.5, 0.53
_FARTHEST = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The closed surface of a value, in micrometres; in voxels where their size is unknown."""

    of: LabelClass
    """Value, name and colour."""
    mesh: trimesh.Trimesh
    """Corners (x, y, z) from the outer corner of the first voxel on; triangles turn outwards."""


def surfaces(labels: Layer, most_voxels: int = MOST_VOXELS) -> Iterator[Surface]:
    """Yield the surface of each value above 0 that occurs, in order of values.

    Parameters
    ----------
    labels : Layer
        Is read slice by slice. A value without a class is called by its number.
    most_voxels : int
        Of the grid on which an object is seen.
    """
    known = {each.value: each for each in labels.classes}
    for value, box in bounding_boxes(labels).items():
        of = known.get(value) or LabelClass(value, str(value), object_colour(value))
        yield Surface(of, _mesh(labels, value, box, most_voxels))


def _mesh(labels: Layer, value: int, box: Roi, most_voxels: int) -> trimesh.Trimesh:
    size = labels.voxel_size or _NO_SIZE

    def is_value(region: Roi) -> npt.NDArray[np.bool_]:
        planes = labels.part(region).planes()
        return np.stack([plane == value for plane in planes])

    cut = object_mask(is_value, box, labels.voxel_size, most_voxels)
    corners, triangles = _closed(np.pad(cut.mask, 1).astype(np.float32))
    corners *= cut.strides
    corners += (box.z, box.y, box.x)
    corners *= np.array(size.zyx) / _NM_PER_UM
    return trimesh.Trimesh(corners[:, ::-1], triangles, process=False)


def _closed(mask: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
    """Return corners (z, y, x), in voxels from the outer corner of the first one, and triangles."""
    found, triangles, *_ = marching_cubes(mask, _INSIDE)
    # Halfway between a voxel inside and one outside.
    corners = np.rint(2 * found.astype(np.float64)) / 2
    smooth = trimesh.Trimesh(corners, triangles, process=False)
    trimesh.smoothing.filter_taubin(  # type: ignore[no-untyped-call]
        smooth, lamb=_SHRINK, nu=_GROW, iterations=_STEPS
    )
    corners += np.clip(smooth.vertices - corners, -_FARTHEST, _FARTHEST)
    # The centre of the first voxel, behind one of margin, is at 1.
    return corners - 0.5, triangles
