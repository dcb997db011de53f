import numpy as np
import pytest

from biosegment.objects.splitting import distance, split


def two_discs(distance_px, radius=10):
    _, y, x = np.indices((3, 40, 70))
    left = np.hypot(y - 20, x - 20) <= radius
    return left | (np.hypot(y - 20, x - 20 - distance_px) <= radius)


def test_the_depth_is_how_much_the_neck_is_narrower():
    mask = two_discs(16)
    height = distance(mask, (1000, 5, 5))
    # Radius 10 px, and 6 px where they meet: 20 nm less.
    assert split(mask, height, 15)[1] == 2
    assert split(mask, height, 25)[1] == 1


def test_equal_peaks_without_a_neck_are_one():
    mask = np.zeros((3, 30, 60), bool)
    mask[:, 5:25, 5:55] = True
    assert split(mask, distance(mask, (1000, 5, 5)), 10)[1] == 1
    assert (
        split(np.ones((3, 4, 5), bool), distance(np.ones((3, 4, 5), bool), (1, 1, 1)), 0.5)[1] == 1
    )


def test_what_is_cut_off_by_the_volume_does_not_end_there():
    mask = np.zeros((3, 30, 60), bool)
    mask[:, 10:20, :] = True
    np.testing.assert_allclose(distance(mask, (40, 5, 5))[:, 15], 25)


def test_depth_is_measured_in_the_unit_of_the_edges():
    mask = np.zeros((21, 9, 9), bool)
    mask[3:18, 2:7, 2:7] = True
    assert distance(mask, (1, 100, 100)).max() == 8
    assert distance(mask, (100, 1, 1)).max() == 3


@pytest.mark.parametrize(("min_voxels", "count"), [(1, 3), (100, 2), (600, 1)])
def test_parts_that_are_too_small_go_to_their_neighbours(min_voxels, count):
    mask = two_discs(16)[1:2]
    mask[0, 18:23, 45:54] = True
    height = np.zeros(mask.shape, np.float32)
    height[0, 20, 20], height[0, 20, 36], height[0, 20, 51] = 3, 3, 3
    parts, found = split(mask, height, 1, min_voxels)
    assert found == count
    np.testing.assert_array_equal(parts > 0, mask)
    assert np.bincount(parts.ravel())[1:].min() >= min(min_voxels, np.count_nonzero(mask))
