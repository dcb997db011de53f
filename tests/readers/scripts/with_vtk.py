"""VTK, with which 3D Slicer and ParaView read meshes."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401 (what actors are made of; no window opens)
from answers import answer_all
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkIndent, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkFiltersCore import vtkCleanPolyData, vtkFeatureEdges
from vtkmodules.vtkFiltersModeling import vtkSelectEnclosedPoints
from vtkmodules.vtkIOGeometry import vtkSTLReader
from vtkmodules.vtkIOImport import vtkGLTFImporter
from vtkmodules.vtkIOPLY import vtkPLYReader


def read(job):
    voxels, parts = np.zeros(job.shape, np.uint16), []
    for name, mesh, colour in scene(job) if job.format == "gltf" else files(job):
        assert open_edges(mesh) == 0, f"{name} is not closed"
        parts.append({"name": name, "colour": colour})
        voxels[inside(mesh, job)] = len(parts)
    return {"voxels": voxels, "parts": parts}


def files(job):
    """Yield name, mesh and colour of each file of a folder, VALUE_NAME.stl or VALUE.stl."""
    for path in Path(job.path).iterdir():
        reader = vtkSTLReader() if job.format == "stl" else vtkPLYReader()
        reader.SetFileName(str(path))
        reader.Update()
        mesh, colour = reader.GetOutput(), None
        if corners := mesh.GetPointData().GetArray("RGBA"):
            (colour,) = np.unique(vtk_to_numpy(corners)[:, :3], axis=0).tolist()
        value, _, name = path.stem.partition("_")
        yield name or value, mesh, colour


def scene(job):
    """Yield the same of each node of a scene."""
    importer = vtkGLTFImporter()
    importer.SetFileName(job.path)
    importer.Update()
    actors = [*importer.GetRenderer().GetActors()]
    tree = ET.fromstring(importer.GetSceneHierarchy().SerializeToXML(vtkIndent()))
    for node in tree.iterfind(".//*[@flat_actor_id]"):
        actor = actors[int(node.get("flat_actor_id"))]
        colour = [round(255 * on_screen(part)) for part in actor.GetProperty().GetColor()]
        yield node.get("label"), actor.GetMapper().GetInput(), colour


def on_screen(light):
    """Return the part of an sRGB colour that a part of linear light is shown as, 0 to 1."""
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def inside(mesh, job):
    """Return which voxels have their centre in a closed mesh, (z, y, x)."""
    centres = (np.stack(np.indices(job.shape), axis=-1) + 0.5) * job.voxel_um
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(centres.reshape(-1, 3)[:, ::-1])))
    cloud = vtkPolyData()
    cloud.SetPoints(points)
    select = vtkSelectEnclosedPoints()
    select.SetInputData(cloud)
    select.SetSurfaceData(mesh)
    select.Update()
    chosen = select.GetOutput().GetPointData().GetArray("SelectedPoints")
    return vtk_to_numpy(chosen).reshape(job.shape).astype(bool)


def open_edges(mesh):
    """Return how many edges bound one triangle only, corners at one place being one."""
    cleaned = vtkCleanPolyData()
    cleaned.SetInputData(mesh)
    edges = vtkFeatureEdges()
    edges.SetInputConnection(cleaned.GetOutputPort())
    edges.FeatureEdgesOff()
    edges.NonManifoldEdgesOff()
    edges.ManifoldEdgesOff()
    edges.BoundaryEdgesOn()
    edges.Update()
    return edges.GetOutput().GetNumberOfCells()


answer_all(read)
