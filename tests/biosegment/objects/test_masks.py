import numpy as np
import pytest

from biosegment.geometry import Roi, VoxelSize
from biosegment.objects import masks
from biosegment.objects.masks import object_mask, strides_for


@pytest.mark.parametrize(
    ("shape", "size", "most", "strides"),
    [
        ((10, 1000, 1000), VoxelSize(40, 5, 4), 10 * 500 * 500, (1, 2, 2)),
        ((1000, 1000, 1000), VoxelSize(8, 8, 8), 500**3, (2, 2, 2)),
        ((1, 1, 1000), VoxelSize(1, 1, 9), 100, (1, 1, 10)),
        ((1000, 1000, 1000), None, 500**3, (2, 2, 2)),
    ],
)
def test_the_grid_becomes_coarser_where_it_is_finest(shape, size, most, strides):
    assert strides_for(shape, size, most) == strides


@pytest.mark.parametrize("most", [30 * 41 * 53, 9000, 500])
def test_a_coarse_voxel_is_set_if_any_of_its_voxels_is(most, monkeypatch):
    monkeypatch.setattr(masks, "_READ_VOXELS", 900)
    monkeypatch.setattr(masks, "_SIDE", 12)
    volume = np.random.default_rng(0).random((33, 50, 60)) > 0.98
    box = Roi(2, 5, 6, 30, 41, 53)
    found = object_mask(lambda region: volume[region.slices], box, VoxelSize(30, 8, 8), most)
    assert found.mask.size <= most
    expected = np.zeros_like(found.mask)
    for place in np.argwhere(volume[box.slices]):
        expected[tuple(place // found.strides)] = True
    np.testing.assert_array_equal(found.mask, expected)
