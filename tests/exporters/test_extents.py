import numpy as np
import pytest

from biosegment.geometry import Roi
from exporters.extents import bounding_boxes, largest_value
from exporters.testing import example_instances, example_labels, layer_of


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_boxes_are_the_smallest_around_each_value(dtype):
    array = example_labels("uint8") if dtype == "uint8" else example_instances(dtype)
    found = bounding_boxes(layer_of(array))
    assert [*found] == [value for value in np.unique(array).tolist() if value]
    for value, box in found.items():
        places = np.nonzero(array == value)
        assert [part.start for part in box.slices] == [axis.min() for axis in places]
        assert [part.stop for part in box.slices] == [axis.max() + 1 for axis in places]


def test_values_may_be_as_large_as_they_can(tmp_path):
    array = np.zeros((3, 4, 5), "uint32")
    array[1, 2:, 3] = 2**32 - 1
    assert bounding_boxes(layer_of(array)) == {2**32 - 1: Roi(1, 2, 3, 1, 2, 1)}
    assert largest_value(layer_of(array)) == 2**32 - 1


def test_background_has_no_box_even_if_there_is_nothing_else():
    assert bounding_boxes(layer_of(np.zeros((2, 3, 4), "uint16"))) == {}
    assert bounding_boxes(layer_of(np.full((2, 3, 4), 7, "uint8"))) == {7: Roi(0, 0, 0, 2, 3, 4)}
