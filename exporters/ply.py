"""PLY, binary: a folder with the surface of each class or object, in its colour.

Coordinates are micrometres, x, y, z, from the outer corner of the first voxel on; those of voxels
where their size is unknown. `surfaces` says how surfaces are made. The colour stands at each
corner.

Cannot be stored: units, intensities.

References
----------
.. [1] G. Turk, "The PLY polygon file format", 1994; https://trimesh.org writes it.

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import CLASSES, layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "labels_meshes"
>>> PlyWriter().write(path, None, layer_of(np.ones((1, 2, 3), "uint8"), CLASSES))
>>> [each.name for each in path.iterdir()]
['1_mitochondria.ply']
"""

from trimesh.exchange.ply import export_ply
from trimesh.visual import ColorVisuals

from exporters.mesh_folder import MeshFolderWriter
from exporters.surfaces import Surface


class PlyWriter(MeshFolderWriter):
    """Writes folders of PLY files."""

    def _ending(self) -> str:
        return ".ply"

    def _content(self, surface: Surface) -> bytes:
        mesh = surface.mesh
        mesh.visual = ColorVisuals(mesh, vertex_colors=[*surface.of.colour, 255])
        return bytes(export_ply(mesh))
