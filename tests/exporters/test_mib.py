import numpy as np
import pytest
import scipy.io

from biosegment.errors import ExportError
from biosegment.geometry import VoxelSize
from exporters.base import LabelClass, Layer
from exporters.mib import MOST_BYTES, MibWriter
from exporters.testing import (
    CLASSES,
    WriterContract,
    example_instances,
    example_labels,
    layer_of,
)


def write(tmp_path, labels, classes=CLASSES, **options):
    """Return what SciPy reads from a model."""
    path = tmp_path / "Labels_stack.model"
    MibWriter().write(path, None, layer_of(labels, classes, **options))
    return scipy.io.loadmat(path)


def voxel_size(found):
    if "BoundingBox" not in found:
        return None
    x0, x1, y0, y1, z0, z1 = found["BoundingBox"].ravel()
    height, width, depth = found[found["modelVariable"].item()].shape
    edges = ((z1 - z0) / (depth - 1), (y1 - y0) / (height - 1), (x1 - x0) / (width - 1))
    return VoxelSize(*(1000 * edge for edge in edges))


class TestMibWriter(WriterContract):
    writer = MibWriter

    def image(self, path):
        raise AssertionError("the format holds labels only")

    def labels(self, path):
        found = scipy.io.loadmat(path)
        return found["mibModel"].transpose(2, 0, 1), voxel_size(found)

    def names(self, path):
        names = scipy.io.loadmat(path)["modelMaterialNames"]
        assert names.shape == (len(names), 1)
        return {place: name.item() for place, name in enumerate(names[:, 0], 1)}


def test_the_file_is_of_version_5(tmp_path):
    write(tmp_path, example_labels("uint8"))
    assert (tmp_path / "Labels_stack.model").read_bytes().startswith(b"MATLAB 5.0 MAT-file")


def test_materials_have_colours(tmp_path):
    colours = write(tmp_path, example_labels("uint8"))["modelMaterialColors"]
    np.testing.assert_allclose(colours * 255, [each.colour for each in CLASSES])


@pytest.mark.parametrize(
    ("dtype", "largest", "kind"),
    [("uint8", 2, 63), ("uint8", 63, 63), ("uint8", 64, 255), ("uint16", 2, 65535)],
)
def test_the_type_has_room_for_all_materials(tmp_path, dtype, largest, kind):
    classes = tuple(LabelClass(value, f"c{value}", (0, 0, 0)) for value in range(1, largest + 1))
    found = write(tmp_path, example_labels(dtype), classes)
    assert found["modelType"].item() == kind
    assert found["modelType"].dtype == float


@pytest.mark.parametrize(("dtype", "kind"), [("uint16", 65535), ("uint32", 4294967295)])
def test_numbered_objects_are_a_model_of_that_many_materials(tmp_path, dtype, kind):
    found = write(tmp_path, example_instances(dtype), (), name="labels")
    assert found["modelType"].item() == kind
    assert found["mibModel"].dtype == dtype
    # As the program itself begins such a model.
    assert [name.item() for name in found["modelMaterialNames"][:, 0]] == ["1", "2"]
    colours = found["modelMaterialColors"]
    assert colours.shape == (65535, 3)
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 0.1


def test_few_values_without_any_class_have_a_material_each(tmp_path):
    found = write(tmp_path, 2 * example_labels("uint8"), (), name="labels")
    assert [name.item() for name in found["modelMaterialNames"][:, 0]] == ["1", "2", "3", "4"]
    assert (len(found["modelMaterialColors"]), found["modelType"].item()) == (4, 63)


def test_values_without_a_class_have_a_material(tmp_path):
    labels = example_labels("uint8")
    labels[0, 0, 0] = 70
    found = write(tmp_path, labels, (LabelClass(2, "vesicles", (0, 119, 187)),))
    assert [name.item() for name in found["modelMaterialNames"][:3, 0]] == ["1", "vesicles", "3"]
    assert (len(found["modelMaterialColors"]), found["modelType"].item()) == (70, 255)


def test_an_axis_of_one_slice_counts_as_two(tmp_path):
    found = write(tmp_path, example_labels("uint8")[:1])
    assert found["BoundingBox"].ravel().tolist() == pytest.approx([0, 0.208, 0, 0.18, 0, 0.04])


def test_without_a_voxel_size_there_is_no_box(tmp_path):
    assert "BoundingBox" not in write(tmp_path, example_labels("uint8"), voxel_size=None)


@pytest.mark.parametrize(("dtype", "width"), [("uint8", 2**15), ("uint16", 2**14)])
def test_what_is_too_large_is_refused_before_it_is_read(tmp_path, dtype, width):
    def read(roi):
        raise AssertionError("nothing should be read")

    layer = Layer("labels", (4, 2**14, width), np.dtype(dtype), None, read, classes=CLASSES)
    with pytest.raises(ExportError, match=f"{MOST_BYTES:,}"):
        MibWriter().write(tmp_path / "a.model", None, layer)
    assert list(tmp_path.iterdir()) == []
