"""STL, binary: a folder with the surface of each class or object.

Coordinates are micrometres, x, y, z, from the outer corner of the first voxel on; those of voxels
where their size is unknown. `surfaces` says how surfaces are made.

Cannot be stored: colours, units, intensities.

References
----------
.. [1] 3D Systems, "SLC and STL file specification"; https://trimesh.org writes it.

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import CLASSES, layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "labels_meshes"
>>> StlWriter().write(path, None, layer_of(np.ones((1, 2, 3), "uint8"), CLASSES))
>>> [each.name for each in path.iterdir()]
['1_mitochondria.stl']
"""

from trimesh.exchange.stl import export_stl

from exporters.mesh_folder import MeshFolderWriter
from exporters.surfaces import Surface


class StlWriter(MeshFolderWriter):
    """Writes folders of STL files."""

    def _ending(self) -> str:
        return ".stl"

    def _content(self, surface: Surface) -> bytes:
        return export_stl(surface.mesh)
