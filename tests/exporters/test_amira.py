import re
from math import prod

import numpy as np
import pytest

from biosegment.errors import ExportError
from biosegment.geometry import VoxelSize
from exporters.amira import AmiraWriter
from exporters.base import LabelClass
from exporters.testing import (
    CLASSES,
    WriterContract,
    example,
    example_instances,
    example_labels,
    layer_of,
)

DTYPES = {
    "byte": "<u1",
    "ushort": "<u2",
    "short": "<i2",
    "int": "<i4",
    "float": "<f4",
}


def header_of(path):
    """Return the header as text, and the voxels behind it."""
    header, voxels = path.read_bytes().split(b"# Data section follows\n@1\n", 1)
    return header.decode(), voxels


def read(path, array):
    """Return voxels and voxel size, as Amira's own files have them."""
    header, voxels = header_of(path)
    assert header.startswith("# AmiraMesh BINARY-LITTLE-ENDIAN 2.1\n")
    x, y, z = map(int, re.search(r"define Lattice (\d+) (\d+) (\d+)", header).groups())
    kind = re.search(rf"^Lattice {{ (\w+) {array} }} @1$", header, re.MULTILINE)[1]
    assert f'Content "{x}x{y}x{z} {kind}, uniform coordinates",' in header
    dtype = np.dtype(DTYPES[kind])
    size = prod((z, y, x)) * dtype.itemsize
    assert voxels[size:] == b"\n"
    volume = np.frombuffer(voxels[:size], dtype).reshape(z, y, x)
    return volume, voxel_size(header, (x, y, z))


def voxel_size(header, xyz):
    box = [float(part) for part in re.search(r"BoundingBox (.*),", header)[1].split()]
    lengths = [high - low for low, high in zip(box[::2], box[1::2], strict=True)]
    x, y, z = (length / max(size - 1, 1) for length, size in zip(lengths, xyz, strict=True))
    if "Units" not in header:
        return VoxelSize(z, y, x)
    assert re.search(r'Units {\s*Coordinates "um"\s*}', header)
    return VoxelSize(1000 * z, 1000 * y, 1000 * x)


def materials(path):
    """Return name, colour and value of each material."""
    found = re.findall(r"(\w+) {\s*Color (\S+) (\S+) (\S+),\s*Id (\d+)\s*}", header_of(path)[0])
    return [(name, tuple(map(float, rgb)), int(value)) for name, *rgb, value in found]


def names_of(tmp_path, *names):
    path = tmp_path / "a.am"
    classes = tuple(LabelClass(value, name, (1, 2, 3)) for value, name in enumerate(names, 1))
    AmiraWriter().write(path, None, layer_of(example_labels("uint8"), classes))
    return [name for name, _, value in materials(path) if value]


class TestAmiraWriter(WriterContract):
    writer = AmiraWriter

    def image(self, path):
        return read(path, "Data")

    def labels(self, path):
        return read(path, "Labels")

    def names(self, path):
        return {value: name for name, _, value in materials(path) if value}


def test_values_without_a_class_have_a_material_for_amira_counts_them(tmp_path):
    path = tmp_path / "a.am"
    classes = (LabelClass(4, "cell", (9, 9, 9)), LabelClass(2, "vesicle", (1, 2, 3)))
    AmiraWriter().write(path, None, layer_of(example_labels("uint8"), classes))
    found = [(name, value) for name, _, value in materials(path)]
    assert found == [
        ("Exterior", 0), ("value_1", 1), ("vesicle", 2), ("value_3", 3), ("cell", 4)
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_numbered_objects_are_materials_as_long_as_they_are_few(tmp_path, dtype):
    path = tmp_path / "a.am"
    AmiraWriter().write(path, None, layer_of(3 * example_labels(dtype), name="labels"))
    found = [(name, value) for name, _, value in materials(path)]
    assert found == [("Exterior", 0), *((f"value_{n}", n) for n in range(1, 7))]
    assert len({colour for _, colour, _ in materials(path)}) == 7
    AmiraWriter().write(path, None, layer_of(example_instances("uint16"), name="labels"))
    assert "Materials" not in header_of(path)[0]


def test_materials_have_colours(tmp_path):
    path = tmp_path / "a.am"
    AmiraWriter().write(path, None, layer_of(example_labels("uint8"), CLASSES))
    exterior, first, *_ = materials(path)
    assert exterior == ("Exterior", (0, 0, 0), 0)
    assert first == ("mitochondria", pytest.approx((238 / 255, 119 / 255, 0.2)), 1)


def test_intensities_have_no_materials(tmp_path):
    path = tmp_path / "a.am"
    AmiraWriter().write(path, layer_of(example("uint8")), None)
    assert "Materials" not in header_of(path)[0]


def test_the_box_goes_from_centre_to_centre(tmp_path):
    path = tmp_path / "a.am"
    AmiraWriter().write(path, layer_of(example("uint8")[:1]), None)
    # 52 voxels of 4 nm, 36 of 5 nm; one slice counts as two.
    assert "BoundingBox 0 0.208 0 0.18 0 0.04," in header_of(path)[0]


def test_without_a_voxel_size_there_is_no_unit(tmp_path):
    path = tmp_path / "a.am"
    AmiraWriter().write(path, layer_of(example("uint8"), voxel_size=None), None)
    header = header_of(path)[0]
    assert "Units" not in header
    assert "BoundingBox 0 52 0 36 0 4," in header


def test_names_become_what_the_format_takes(tmp_path):
    assert names_of(tmp_path, "my label", "2nd", "é-granule", "ER") == [
        "my_label",
        "_2nd",
        "__granule",
        "ER",
    ]


def test_no_two_materials_have_one_name(tmp_path):
    found = names_of(tmp_path, "a b", "a_b", "a-b", "a_b_2", "Exterior")
    assert found == ["a_b", "a_b_2", "a_b_3", "a_b_2_2", "Exterior_2"]


def test_brackets_in_names_do_not_end_the_header(tmp_path):
    assert names_of(tmp_path, "a}\n# Data section follows") == ["a____Data_section_follows"]


def test_what_readers_do_not_take_is_refused(tmp_path):
    path = tmp_path / "a.am"
    with pytest.raises(ExportError, match="uint32"):
        AmiraWriter().write(path, None, layer_of(example("uint32"), CLASSES))
    with pytest.raises(ExportError, match="float64"):
        AmiraWriter().write(path, layer_of(example("float64")), None)
    assert list(tmp_path.iterdir()) == []
