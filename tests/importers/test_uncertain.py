import numpy as np
import pytest

from biosegment.errors import SettingsError, UncertaintyError
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore, volume_path
from biosegment.unfinished_labels import UnfinishedLabels, write_blocks
from importers.pool import PoolPlan

SHAPE = (12, 1024, 1100)
SPOTS = ((3, 300, 700), (3, 80, 80), (9, 900, 64))
"""Where the map is high; the first one most."""


@pytest.fixture
def store(tmp_path):
    path = volume_path(tmp_path, "em")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, SHAPE, np.uint8, VoxelSize(50, 5, 5))
    store.finish((0.0, 255.0), {})
    return VolumeStore.open(tmp_path, "em")


def segmented(store, name="cells"):
    """Make a segmentation that is unsure at the spots, and a little less in the slices beside."""
    with UnfinishedLabels.begin(store, name, ["cell"], {}, 1, ["uncertainty"]) as labels:
        for z in range(SHAPE[0]):
            plane = np.zeros((1, *SHAPE[1:]), np.uint8)
            for height, (at, y, x) in zip((250, 240, 230), SPOTS, strict=True):
                plane[0, y : y + 30, x : x + 30] = max(0, height - 20 * abs(z - at))
            write_blocks(store, name, Roi(z, 0, 0, 1, *SHAPE[1:]), {"uncertainty": plane})
        labels.finish()


def tiles(store, count, **changes):
    plan = PoolPlan(tile_px=128, count=count, most_uncertain=True, **changes)
    return plan.tiles(store)


def test_the_most_uncertain_places_come_first_each_once(store):
    segmented(store)
    found = tiles(store, 3)
    assert len(found) == 3
    for tile, (z, y, x) in zip(found, SPOTS, strict=True):
        assert tile.z == z
        assert (tile.y <= y < tile.y + 128, tile.x <= x < tile.x + 128) == (True, True)
    near = [tile for tile in tiles(store, 6) if tile.y == found[0].y and tile.x == found[0].x]
    assert all(abs(tile.z - 3) * 50 >= 250 for tile in near[1:])


def test_they_lie_in_the_region_that_is_asked_for(store):
    segmented(store)
    (tile,) = tiles(store, 1, region=lambda _: Roi(6, 0, 0, 6, 1024, 1100))
    assert tile.z == 9


def test_one_of_several_segmentations_has_to_be_chosen(store):
    with pytest.raises(UncertaintyError, match="biosegment segment em --uncertainty"):
        tiles(store, 1)
    segmented(store, "one")
    segmented(store, "two")
    with pytest.raises(UncertaintyError, match="one, two"):
        tiles(store, 1)
    with pytest.raises(UncertaintyError, match="'three'"):
        tiles(store, 1, uncertainty_of="three")
    assert tiles(store, 1, uncertainty_of="two")[0].z == 3


def test_other_ways_of_choosing_exclude_it():
    with pytest.raises(SettingsError, match="--most-uncertain"):
        PoolPlan(draw="random", count=5, most_uncertain=True)
    with pytest.raises(SettingsError, match="--most-uncertain"):
        PoolPlan(near=(1, 2, 3), count=5, most_uncertain=True)
