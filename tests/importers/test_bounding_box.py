import math

import pytest

from importers.bounding_box import box_edges


def test_a_box_spans_the_centres_of_the_outer_voxels():
    assert box_edges([1, 9, 0, 6, 10, 15], (6, 4, 5)) == (1, 2, 2)


def test_an_axis_of_one_voxel_spans_it():
    assert box_edges([0, 8, 0, 6, 10, 15], (1, 4, 5)) == (5, 2, 2)


@pytest.mark.parametrize(
    "box",
    [[], [0, 1, 0, 1], [0, 1, 0, 1, 5, 5], [0, math.nan, 0, 1, 0, 1], [0, 1, 0, 1, 0, math.inf]],
)
def test_a_box_that_cannot_be_true_tells_nothing(box):
    assert box_edges(box, (2, 2, 2)) is None
