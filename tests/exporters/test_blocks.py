import numpy as np
import pytest

from exporters import blocks
from exporters.blocks import boxes, slabs
from exporters.testing import SHAPE, example, layer_of


def test_boxes_cover_each_voxel_once():
    count = np.zeros((5, 7), int)
    for box in boxes(count.shape, (2, 3)):
        count[box] += 1
        assert max(part.stop - part.start for part in box) <= 3
    assert (count == 1).all()


@pytest.mark.parametrize(("buffer", "rows"), [(2**28, 37), (2 * 10 * 53 * 2 * 2, 20), (1, 10)])
def test_slabs_are_whole_rows_as_many_as_fit(monkeypatch, buffer, rows):
    monkeypatch.setattr(blocks, "_BUFFER_BYTES", buffer)
    found = np.zeros(SHAPE, "uint16")
    for place, block in slabs(layer_of(example("uint8")), 2, 10, np.dtype("uint16")):
        found[place] = block
        assert block.shape[0] <= 2
        assert block.shape[1] <= rows
        assert block.dtype == "uint16"
    np.testing.assert_array_equal(found, example("uint8"))
