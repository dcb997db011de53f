import nrrd
import numpy as np
import pytest

from biosegment.errors import ExportError
from biosegment.geometry import VoxelSize
from exporters.nrrd_file import NrrdWriter
from exporters.testing import CLASSES, WriterContract, example, example_labels, layer_of


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


def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    with pytest.raises(ExportError, match="uint32"):
        NrrdWriter().write(path, None, layer_of(example("uint32"), CLASSES))
    assert list(tmp_path.iterdir()) == []
