import numpy as np
import pytest
import roifile
from roifile import ROI_TYPE
from skimage.draw import polygon

from exporters.base import LabelClass
from exporters.rois import RoiWriter, outlines
from exporters.testing import CLASSES, SHAPE, WriterContract, layer_of


class TestRoiWriter(WriterContract):
    writer = RoiWriter
    keeps_voxel_size = False
    keeps_names = False

    def image(self, path):
        raise NotImplementedError

    def labels(self, path):
        """Draw the ROIs as ImageJ does: a pixel whose centre lies inside; parts cancel."""
        volume = np.zeros(SHAPE, np.uint32)
        values = {each.name: each.value for each in CLASSES}
        for roi in roifile.roiread(path):
            inside = np.zeros(SHAPE[1:], bool)
            for part in roi.coordinates(multi=True):
                rows, columns = polygon(part[:, 1] - 0.5, part[:, 0] - 0.5, SHAPE[1:])
                inside[rows, columns] ^= True
            name = roi.name.rpartition("-")[0]
            volume[roi.z_position - 1][inside] = values.get(name) or int(name)
        return volume, None


def area(corners):
    x, y = np.asarray(corners, float).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@pytest.mark.parametrize("seed", range(8))
def test_outlines_bound_exactly_the_mask(seed):
    mask = np.random.default_rng(seed).random((17, 23)) < 0.3 + 0.05 * seed
    drawn = np.zeros(mask.shape, bool)
    for outline in outlines(mask):
        rows, columns = polygon(outline[:, 1] - 0.5, outline[:, 0] - 0.5, mask.shape)
        drawn[rows, columns] ^= True
        steps = np.diff(outline, axis=0, append=outline[:1])
        assert ((steps != 0).sum(axis=1) == 1).all(), "an edge runs along rows or columns"
        assert (np.diff((steps != 0)[:, 0].astype(int)) != 0).all(), "and ends in a corner"
    np.testing.assert_array_equal(drawn, mask)


def test_each_object_is_one_roi_on_its_slice(tmp_path):
    labels = np.zeros((2, 20, 30), "uint8")
    labels[0, 2:6, 3:9] = 1
    labels[0, 10:14, 20:29] = 2
    labels[1, 5:15, 5:15] = 1
    labels[1, 8:11, 8:11] = 0
    path = tmp_path / "a.zip"
    RoiWriter().write(path, None, layer_of(labels, CLASSES))
    rois = roifile.roiread(path)
    assert [roi.name for roi in rois] == ["mitochondria-1", "vesicles-1", "mitochondria-2"]
    assert [(roi.position, roi.z_position) for roi in rois] == [(1, 1), (1, 1), (2, 2)]
    colours = [tuple(roi.stroke_color) for roi in rois]
    assert colours == [(255, *CLASSES[value - 1].colour) for value in (1, 2, 1)]
    assert rois[0].roitype == ROI_TYPE.TRACED
    assert area(rois[0].coordinates()) == 24
    assert sorted(area(part) for part in rois[2].coordinates(multi=True)) == [9, 100]


def test_a_numbered_object_is_one_roi_on_each_slice(tmp_path):
    labels = np.zeros((2, 20, 30), "uint16")
    labels[:, 2:6, 3:9] = 700
    labels[1, 10:12, 20:29] = 700
    labels[1, 15:18, 2:5] = 3
    path = tmp_path / "a.zip"
    RoiWriter().write(path, None, layer_of(labels, name="labels"))
    rois = roifile.roiread(path)
    assert [(roi.name, roi.z_position) for roi in rois] == [("700-1", 1), ("3-2", 2), ("700-2", 2)]
    assert sorted(area(part) for part in rois[2].coordinates(multi=True)) == [18, 24]
    colours = [bytes(roi.stroke_color) for roi in rois]
    assert colours[0] == colours[2] != colours[1]


def test_names_that_are_no_names_of_files_are_told(tmp_path):
    layer = layer_of(np.ones((1, 2, 3), "uint8"), (LabelClass(1, "a/b", (1, 2, 3)),))
    RoiWriter().write(tmp_path / "a.zip", None, layer)
    assert roifile.roiread(tmp_path / "a.zip")[0].name == "a_b-1"
    (told,) = RoiWriter().notices(layer)
    assert told.endswith('"a/b" is "a_b"')
