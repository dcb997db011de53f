from collections import Counter
from functools import partial

import numpy as np
import pytest
import tifffile

from biosegment.errors import LabelsMismatchError, RegionError, SettingsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.tiles import Tile, grid_tiles
from importers.convert import import_volume
from importers.pool import PoolPlan, nearest

SHAPE = (16, 128, 192)
plan = partial(PoolPlan, tile_px=32)


@pytest.fixture
def store(tmp_path):
    """A volume whose left third is resin: bright, and nearly without contrast."""
    rng = np.random.default_rng(0)
    volume = rng.integers(60, 200, SHAPE, "uint8")
    volume[:, :, :64] = rng.integers(225, 230, (16, 128, 64), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack")
    return import_volume(tmp_path / "a.tif", tmp_path, "a")


@pytest.fixture
def mask(tmp_path):
    """Slices 4 to 7, the right half."""
    inside = np.zeros(SHAPE, bool)
    inside[4:8, :, 96:] = True
    tifffile.imwrite(tmp_path / "mask.tif", inside, photometric="minisblack")
    return tmp_path / "mask.tif"


def test_the_grid_is_the_whole_grid(store):
    assert plan().tiles(store) == list(grid_tiles("a", Roi.whole(SHAPE), (32, 32)))


def test_a_draw_has_as_many_tiles_as_asked_for_none_twice(store):
    for draw in ("random", "stratified"):
        tiles = plan(draw=draw, count=40).tiles(store)
        assert len(set(tiles)) == 40
        assert tiles == plan(draw=draw, count=40).tiles(store)
        assert tiles != plan(draw=draw, count=40, seed=1).tiles(store)


def test_strata_are_spread_over_depth_and_contrast(store):
    tiles = plan(draw="stratified", count=32).tiles(store)
    depths = Counter(tile.z // 2 for tile in tiles)
    assert max(depths.values()) - min(depths.values()) <= 3
    for bin_tiles in (tiles[first : first + 8] for first in range(0, 32, 8)):
        resin = sum(tile.x + 32 <= 64 for tile in bin_tiles)
        assert 1 <= resin <= 4


@pytest.mark.parametrize("draw", ["grid", "random", "stratified"])
def test_a_region_holds_all_tiles(store, draw):
    box = Roi(2, 32, 64, 3, 64, 96)
    tiles = plan(draw=draw, count=5, region=lambda _: box).tiles(store)
    assert len(tiles) == 5
    for tile in tiles:
        assert 2 <= tile.z < 5
        assert 32 <= tile.y <= 64
        assert 64 <= tile.x <= 128


@pytest.mark.parametrize("draw", ["grid", "random", "stratified"])
def test_a_mask_covers_half_of_each_tile(store, mask, draw):
    tiles = plan(draw=draw, count=12, mask=mask).tiles(store)
    assert len(set(tiles)) == 12
    for tile in tiles:
        assert 4 <= tile.z < 8
        assert tile.x >= 80


def test_a_small_mask_gives_what_it_holds(store, tmp_path):
    inside = np.zeros(SHAPE, bool)
    inside[3, :40, :40] = True
    tifffile.imwrite(tmp_path / "small.tif", inside, photometric="minisblack")
    tiles = plan(draw="random", count=4, mask=tmp_path / "small.tif").tiles(store)
    assert 1 <= len(tiles) <= 4
    assert {tile.z for tile in tiles} == {3}


def test_a_mask_that_does_not_fit_is_refused(store, tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.ones((16, 64, 64), "uint8"), photometric="minisblack")
    with pytest.raises(LabelsMismatchError, match="16 x 64 x 64 voxels, the volume 'a'"):
        plan(mask=tmp_path / "m.tif").tiles(store)
    tifffile.imwrite(tmp_path / "m.tif", np.zeros(SHAPE, "uint8"), photometric="minisblack")
    for draw in ("grid", "random"):
        with pytest.raises(LabelsMismatchError, match="covers no tile"):
            plan(mask=tmp_path / "m.tif", draw=draw, count=3).tiles(store)


def test_tiles_near_a_point_come_nearest_first(store):
    tiles = plan(near=(5, 48, 80), count=7).tiles(store)
    assert tiles[0] == Tile("a", 5, 32, 64, 32, 32)
    around = [(4, 32, 64), (6, 32, 64), (5, 0, 64), (5, 64, 64), (5, 32, 32), (5, 32, 96)]
    assert {(tile.z, tile.y, tile.x) for tile in tiles[1:]} == set(around)


def test_distances_are_in_nanometres_where_they_are_known():
    tiles = [Tile("a", z, 0, x, 32, 32) for z in range(3) for x in (0, 32)]
    flat = nearest(tiles, (1, 16, 16), VoxelSize(100, 1, 1))
    assert [(tile.z, tile.x) for tile in flat[:2]] == [(1, 0), (1, 32)]
    deep = nearest(tiles, (1, 16, 16), VoxelSize(10, 1, 1))
    assert [(tile.z, tile.x) for tile in deep[:3]] == [(1, 0), (0, 0), (2, 0)]


def test_a_point_outside_is_refused(store):
    with pytest.raises(RegionError):
        plan(near=(16, 0, 0), count=3).tiles(store)


@pytest.mark.parametrize(
    "options", [{"draw": "random"}, {"near": (0, 0, 0)}, {"near": (0, 0, 0), "draw": "random"}]
)
def test_a_plan_without_a_number_or_with_two_aims_is_refused(options):
    with pytest.raises(SettingsError):
        plan(**options)
