"""Files of surfaces: STL and PLY, read as their specifications have them, and glTF by trimesh."""

import json
import resource
import struct

import numpy as np
import pytest
import trimesh

from biosegment.errors import DiskFullError, ExportError
from exporters import WRITERS, gltf
from exporters.base import LabelClass
from exporters.gltf import GltfWriter
from exporters.object_colours import object_colour
from exporters.ply import PlyWriter
from exporters.stl import StlWriter
from exporters.surfaces import surfaces
from exporters.testing import CLASSES, example, example_instances, example_labels, layer_of

FORMATS = [name for name in WRITERS if not WRITERS[name].COMES_BACK]
LABELS = layer_of(example_labels("uint8"), CLASSES)


def write(tmp_path, format, labels=LABELS):
    writer = WRITERS[format]()
    path = tmp_path / f"a_labels{writer.labels_suffix(labels)}"
    writer.write(path, None, labels)
    return path


def read_stl(path):
    """Return corners of triangles, shape (N, 3, 3)."""
    content = path.read_bytes()
    (count,) = struct.unpack_from("<I", content, 80)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    assert len(content) == 84 + count * record.itemsize
    return np.frombuffer(content, record, count, 84)["corners"]


def read_ply(path):
    """Return corners of triangles, shape (N, 3, 3), and the colours of all corners."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = [int(line.split()[-1]) for line in lines if line.startswith("element")]
    assert [line for line in lines if line.startswith("property")] == [
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {part}" for part in ("red", "green", "blue", "alpha")),
        "property list uchar int vertex_indices",
    ]
    corner = np.dtype([("at", "<f4", 3), ("colour", "u1", 4)])
    corners = np.frombuffer(body, corner, counts[0])
    face = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
    faces = np.frombuffer(body, face, counts[1], counts[0] * corner.itemsize)
    assert (faces["count"] == 3).all()
    assert len(body) == corners.nbytes + faces.nbytes
    return corners["at"][faces["corners"]], corners["colour"]


def expected():
    """Return corners of the triangles of each surface."""
    return {each.of.name: each.mesh.vertices[each.mesh.faces] for each in surfaces(LABELS)}


def read_glb(path):
    """Return the description in a file, after a look at its container."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert (kind, size % 4) == (b"JSON", 0)
    binary, kind = struct.unpack_from("<I4s", content, 20 + size)
    assert (kind, 28 + size + binary) == (b"BIN\0", len(content))
    return json.loads(content[20 : 20 + size])


def test_stl_has_a_file_of_each_class_that_occurs(tmp_path):
    path = write(tmp_path, "stl")
    assert sorted(each.name for each in path.iterdir()) == ["1_mitochondria.stl", "2_vesicles.stl"]
    for name, triangles in expected().items():
        (file,) = path.glob(f"*{name}.stl")
        np.testing.assert_allclose(read_stl(file), triangles, atol=1e-6)


def test_ply_has_colours_as_well(tmp_path):
    path = write(tmp_path, "ply")
    assert sorted(each.name for each in path.iterdir()) == ["1_mitochondria.ply", "2_vesicles.ply"]
    for each in CLASSES[:2]:
        triangles, colours = read_ply(path / f"{each.value}_{each.name}.ply")
        np.testing.assert_allclose(triangles, expected()[each.name], atol=1e-6)
        assert np.unique(colours, axis=0).tolist() == [[*each.colour, 255]]


def test_gltf_is_a_scene_of_named_surfaces(tmp_path):
    scene = trimesh.load_scene(write(tmp_path, "gltf"))
    assert [*scene.geometry] == ["mitochondria", "vesicles"]
    for name, triangles in expected().items():
        mesh = scene.geometry[name]
        np.testing.assert_allclose(mesh.triangles, triangles, atol=1e-6)
        normals = mesh.vertex_normals
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
        outwards = np.einsum("ij,ij->i", normals, mesh.vertices - mesh.vertices.mean(axis=0))
        assert (outwards > 0).mean() > 0.5


def test_gltf_says_what_its_numbers_are(tmp_path):
    told = read_glb(write(tmp_path, "gltf"))
    assert told["asset"]["version"] == "2.0"
    assert [node["name"] for node in told["nodes"]] == ["mitochondria", "vesicles"]
    (buffer,) = told["buffers"]
    views = told["bufferViews"]
    assert [view["byteOffset"] for view in views[1:]] == [
        view["byteOffset"] + view["byteLength"] for view in views[:-1]
    ]
    assert views[-1]["byteOffset"] + views[-1]["byteLength"] == buffer["byteLength"]
    colour = told["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"]
    # (0, 119, 187) on screen, as shares of light.
    assert colour == pytest.approx([0, 0.184475, 0.496933, 1], abs=1e-5)
    triangles = expected()["vesicles"].reshape(-1, 3)
    corners = told["accessors"][told["meshes"][1]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_allclose(corners["min"], triangles.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(corners["max"], triangles.max(axis=0), atol=1e-6)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_numbered_objects_have_a_surface_each(tmp_path, format, dtype):
    objects = example_instances(dtype)[:2]
    names = {str(value) for value in np.unique(objects).tolist()} - {"0"}
    path = write(tmp_path, format, layer_of(objects, name="labels"))
    if format == "gltf":
        told = read_glb(path)
        assert {node["name"] for node in told["nodes"]} == names
        colours = [each["pbrMetallicRoughness"]["baseColorFactor"] for each in told["materials"]]
        assert colours[0] != colours[1]
    else:
        assert {each.stem for each in path.iterdir()} == names
    if format == "ply":
        (name, *_) = sorted(names)
        _, colours = read_ply(path / f"{name}.ply")
        assert tuple(colours[0][:3]) == object_colour(int(name))


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_written_of_background(tmp_path, format):
    path = write(tmp_path, format, layer_of(np.zeros((2, 3, 4), "uint8"), CLASSES))
    if format == "gltf":
        told = read_glb(path)
        assert (told["scenes"], "nodes" in told) == ([{}], False)
    else:
        assert list(path.iterdir()) == []


@pytest.mark.parametrize("writer", [StlWriter, PlyWriter])
def test_names_that_are_no_names_of_files_are_changed_and_told(tmp_path, writer):
    odd = (LabelClass(1, "../a b/c", (1, 2, 3)), LabelClass(2, "é", (1, 2, 3)))
    layer = layer_of(example_labels("uint8"), odd)
    writer().write(tmp_path / "a_meshes", None, layer)
    found = sorted(each.stem for each in (tmp_path / "a_meshes").iterdir())
    assert found == ["1_.._a_b_c", "2_é"]
    (told,) = writer().notices(layer)
    assert told.endswith('"../a b/c" is ".._a_b_c"')


def test_gltf_keeps_any_name(tmp_path):
    odd = (LabelClass(1, '../a "b"/é', (1, 2, 3)),)
    layer = layer_of((example_labels("uint8") == 1).astype("uint8"), odd)
    told = read_glb(write(tmp_path, "gltf", layer))
    assert [node["name"] for node in told["nodes"]] == ['../a "b"/é']
    assert GltfWriter().notices(layer) == ()


def test_a_scene_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gltf, "MOST_BYTES", 10_000)
    with pytest.raises(ExportError, match=r"labels cannot be written: .* a scene holds 10,000"):
        write(tmp_path, "gltf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_intensities_have_no_surface(tmp_path, format):
    with pytest.raises(ExportError, match="labels only"):
        WRITERS[format]().write(tmp_path / "a", layer_of(example("uint8")), None)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("limit", [100, 50_000])
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, format, limit):
    path = write(tmp_path, format)
    before = {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskFullError):
            write(tmp_path, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.exists()
    assert {each: each.stat().st_mtime_ns for each in tmp_path.rglob("*")} == before
