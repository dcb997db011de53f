from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.geometry import Roi
from biosegment.tiles import Tile, grid_tiles, random_tiles, tile_image_path

lengths = st.integers(1, 60)
starts = st.integers(0, 9)
regions = st.builds(Roi, starts, starts, starts, st.integers(1, 3), lengths, lengths)


def covered(tiles, region):
    count = np.zeros(tuple(part.stop for part in region.slices), int)
    for tile in tiles:
        count[tile.roi.slices] += 1
    return count


@given(regions, st.integers(1, 25), st.integers(1, 25), st.integers(0, 24))
def test_a_grid_covers_its_region_and_nothing_else(region, height, width, overlap):
    overlap = min(overlap, min(height, region.height) - 1, min(width, region.width) - 1)
    tiles = list(grid_tiles("v", region, (height, width), overlap))
    count = covered(tiles, region)
    assert (count[region.slices] >= 1).all()
    assert count.sum() == count[region.slices].sum()
    assert len(set(tiles)) == len(tiles)
    assert {(tile.height, tile.width) for tile in tiles} == {
        (min(height, region.height), min(width, region.width))
    }


def test_a_grid_that_fits_has_no_overlap():
    tiles = list(grid_tiles("v", Roi(0, 0, 0, 2, 1024, 512), (256, 256)))
    assert len(tiles) == 2 * 4 * 2
    assert tiles[1] == Tile("v", 0, 0, 256, 256, 256)


def test_the_last_row_is_shifted_inwards():
    tiles = list(grid_tiles("v", Roi(5, 10, 20, 1, 100, 64), (64, 64)))
    assert [tile.y for tile in tiles] == [10, 46]


def test_neighbours_share_at_least_the_overlap():
    columns = sorted({tile.x for tile in grid_tiles("v", Roi(0, 0, 0, 1, 64, 200), (64, 64), 16)})
    assert columns == [0, 48, 96, 136]


@pytest.mark.parametrize("overlap", [-1, 64, 100])
def test_an_overlap_that_leaves_no_step_is_refused(overlap):
    with pytest.raises(ValueError, match="no step"):
        list(grid_tiles("v", Roi(0, 0, 0, 1, 200, 200), (64, 64), overlap))


@given(regions, st.integers(1, 25), st.integers(0, 40), st.integers(0, 3))
def test_random_tiles_are_distinct_ordered_and_inside(region, side, count, seed):
    tiles = random_tiles("v", region, (side, side), count, seed)
    assert tiles == sorted(set(tiles), key=lambda tile: (tile.z, tile.y, tile.x))
    inside = covered(tiles, region)
    assert inside.sum() == inside[region.slices].sum()
    places = region.depth * (max(region.height - side, 0) + 1) * (max(region.width - side, 0) + 1)
    assert len(tiles) == min(count, places)


def test_a_seed_draws_the_same_tiles_and_another_one_others():
    region = Roi(0, 0, 0, 20, 1024, 1024)
    first, again, other = (random_tiles("v", region, (128, 128), 2000, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_random_tiles_spread_evenly_over_an_enormous_volume():
    tiles = random_tiles("v", Roi(0, 0, 0, 10_000, 50_000, 50_000), (128, 128), 2000, 0)
    assert np.mean([tile.z for tile in tiles]) == pytest.approx(5000, rel=0.05)
    assert np.mean([tile.x for tile in tiles]) == pytest.approx(25_000, rel=0.05)


def test_where_the_image_of_a_tile_lies():
    path = tile_image_path(Tile("vnc", 7, 256, 1024, 128, 256))
    assert path == PurePosixPath("tiles/vnc/128x256/z00007_y000256_x001024.png")
