import numpy as np

from biosegment.geometry import Roi
from exporters.testing import CLASSES, VOXEL_SIZE, example_labels, layer_of


def test_a_part_of_a_layer_is_a_layer():
    array = example_labels("uint8")
    whole = layer_of(array, CLASSES)
    region = Roi(1, 10, 20, 3, 15, 7)
    part = whole.part(region)
    assert (part.shape, part.dtype) == (region.shape, array.dtype)
    assert (part.name, part.voxel_size, part.classes) == ("labels", VOXEL_SIZE, CLASSES)
    np.testing.assert_array_equal(list(part.planes()), array[region.slices])
    inner = Roi(1, 2, 3, 2, 4, 4)
    np.testing.assert_array_equal(
        part.part(inner).read(Roi(0, 1, 2, 2, 3, 2)), array[2:4, 13:16, 25:27]
    )
