import nrrd
import numpy as np
import pytest

from biosegment.errors import ExportError
from biosegment.geometry import VoxelSize
from exporters.base import LabelClass
from exporters.nrrd_file import NrrdWriter
from exporters.testing import (
    CLASSES,
    WriterContract,
    example,
    example_instances,
    example_labels,
    layer_of,
)


def read(path):
    """Return voxels and voxel size by pynrrd."""
    data, header = nrrd.read(str(path), index_order="C")
    edges = np.diag(header["space directions"])
    assert header.get("space", "left-posterior-superior") == "left-posterior-superior"
    return data, VoxelSize(*(1e6 * edges[::-1])) if "space" in header else None


class TestNrrdWriter(WriterContract):
    writer = NrrdWriter

    def image(self, path):
        return read(path)

    def labels(self, path):
        return read(path)

    def names(self, path):
        header = nrrd.read_header(str(path))
        return {int(header[f"Segment{n}_LabelValue"]): header[f"Segment{n}_Name"] for n in range(3)}


def test_segments_have_colours_and_extents(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    labels = example_labels("uint8")
    NrrdWriter().write(path, None, layer_of(labels, CLASSES))
    header = nrrd.read_header(str(path))
    colour = [float(part) for part in header["Segment1_Color"].split()]
    assert colour == pytest.approx([0, 119 / 255, 187 / 255], abs=1e-5)
    z, y, x = np.nonzero(labels == 2)
    extent = [x.min(), x.max(), y.min(), y.max(), z.min(), z.max()]
    assert [int(n) for n in header["Segment1_Extent"].split()] == extent
    assert header["Segment2_Extent"] == "0 -1 0 -1 0 -1"


def test_values_without_names_are_segments_of_their_own(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    labels = 3 * example_labels("uint8")
    NrrdWriter().write(path, None, layer_of(labels, name="labels"))
    header = nrrd.read_header(str(path))
    segments = [(header[f"Segment{n}_LabelValue"], header[f"Segment{n}_Name"]) for n in range(2)]
    assert segments == [("3", "3"), ("6", "6")]
    assert header["Segment0_Color"] != header["Segment1_Color"]
    assert "Segment2_ID" not in header


def test_numbered_objects_are_a_label_map_without_segments(tmp_path):
    layer = layer_of(example_instances("uint16"), name="labels")
    assert NrrdWriter().labels_suffix(layer) == ".nrrd"
    NrrdWriter().write(tmp_path / "a.nrrd", None, layer)
    header = nrrd.read_header(str(tmp_path / "a.nrrd"))
    assert header["space"] == "left-posterior-superior"
    assert [key for key in header if key.startswith("Segment")] == []


def test_a_name_does_not_leave_its_line(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    layer = layer_of(example_labels("uint8"), (LabelClass(1, "a\nSegment9_ID:=b\\n", (1, 2, 3)),))
    NrrdWriter().write(path, None, layer)
    assert nrrd.read_header(str(path))["Segment0_Name"] == "a Segment9_ID:=b/n"
    (told,) = NrrdWriter().notices(layer)
    assert 'is "a Segment9_ID:=b/n"' in told


def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    with pytest.raises(ExportError, match="uint32"):
        NrrdWriter().write(path, None, layer_of(example("uint32"), CLASSES))
    assert list(tmp_path.iterdir()) == []
