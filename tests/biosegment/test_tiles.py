from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.geometry import Roi, VoxelSize
from biosegment.tiles import Tile, grid_tiles, random_tiles, spread, tile_image_path

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


@given(regions, st.integers(1, 25), st.integers(1, 30), st.booleans())
def test_no_tile_is_far_from_the_first_ones(region, side, count, anisotropic):
    """What farthest-first promises: all tiles are nearer to a chosen one than those are apart."""
    tiles = list(grid_tiles("v", region, (side, side)))
    voxel = VoxelSize(50, 5, 4) if anisotropic else VoxelSize(1, 1, 1)
    chosen = spread(tiles, voxel, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(tiles))
    places = np.array([(tile.z, tile.y, tile.x) for tile in tiles]) * voxel.zyx
    steps = places[:, None] - places[chosen]
    distances = np.sqrt((steps**2).sum(axis=2))
    for k in range(2, len(chosen) + 1):
        apart = distances[chosen[:k], :k][~np.eye(k, dtype=bool)].min()
        assert distances[:, :k].min(axis=1).max() <= apart + 1e-9


def first(tiles, voxel_size, count):
    chosen = (tiles[index] for index in spread(tiles, voxel_size, count))
    return [(tile.z, tile.y // 100, tile.x // 100) for tile in chosen]


def test_the_first_tile_is_in_the_middle_and_the_next_in_the_corners():
    tiles = list(grid_tiles("v", Roi(0, 0, 0, 1, 500, 700), (100, 100)))
    corners = [(0, 0, 0), (0, 0, 6), (0, 4, 0), (0, 4, 6)]
    assert first(tiles, VoxelSize(50, 5, 5), 5)[0] == (0, 2, 3)
    assert sorted(first(tiles, VoxelSize(50, 5, 5), 5)[1:]) == corners


def test_distances_are_physical():
    """Slices far apart come before columns that are near, and the other way round."""
    tiles = list(grid_tiles("v", Roi(0, 0, 0, 3, 100, 300), (100, 100)))
    assert {z for z, _, _ in first(tiles, VoxelSize(5000, 5, 5), 3)} == {0, 1, 2}
    assert {x for _, _, x in first(tiles, VoxelSize(5, 5, 5), 3)} == {0, 1, 2}
    assert {z for z, _, _ in first(tiles, VoxelSize(5, 5, 5), 2)[:1]} == {1}


@pytest.mark.parametrize("shape", [(6, 600, 600), (600, 600, 600), (6, 100, 3000), (60, 600, 100)])
def test_without_a_voxel_size_every_axis_is_spread(shape):
    tiles = random_tiles("v", Roi.whole(shape), (50, 50), 3000, 0)
    chosen = np.array([(tiles[i].z, tiles[i].y, tiles[i].x) for i in spread(tiles, None)])
    room = np.array([shape[0] - 1, shape[1] - 50, shape[2] - 50])
    for low, high, length in zip(chosen.min(axis=0), chosen.max(axis=0), room, strict=True):
        assert high - low > 0.8 * length


def test_fewer_tiles_than_are_wanted_first():
    tiles = list(grid_tiles("v", Roi(0, 0, 0, 2, 100, 200), (100, 100)))
    assert sorted(spread(tiles, None)) == [0, 1, 2, 3]
    assert spread([], None) == []


def test_where_the_image_of_a_tile_lies():
    path = tile_image_path(Tile("vnc", 7, 256, 1024, 128, 256))
    assert path == PurePosixPath("tiles/vnc/128x256/z00007_y000256_x001024.png")
