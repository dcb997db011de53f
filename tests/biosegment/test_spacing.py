import numpy as np
import pytest

from biosegment.geometry import VoxelSize
from biosegment.spacing import near, places
from biosegment.tiles import Tile

SIZES = {"known": VoxelSize(40, 4, 8), "unknown": None}


def tile(z=0, y=0, x=0, volume="known"):
    return Tile(volume, z, y, x, height=100, width=50)


def test_centres_in_nanometres():
    found = places([tile(2, 10, 20), None, tile(volume="unknown"), tile()], SIZES.__getitem__)
    np.testing.assert_allclose(found[0], [0, 100, 240, 360])
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2], [1, 25, 250, 125])
    np.testing.assert_allclose(found[3], [0, 20, 200, 200])


def test_no_tiles_have_no_places():
    assert places([], SIZES.__getitem__).shape == (0, 4)


@pytest.mark.parametrize(
    ("other", "too_near"),
    [
        (tile(2), True),
        (tile(3), False),
        (tile(2, y=24), True),
        (tile(2, y=25), False),
        (tile(0, x=12), True),
        (tile(0, x=13), False),
        (tile(volume="unknown"), False),
        (None, False),
    ],
)
def test_near_along_all_three_axes_in_the_same_volume(other, too_near):
    found = places([tile(), other], SIZES.__getitem__)
    assert near(found, 0, (100, 100, 100)).tolist() == [True, too_near]
