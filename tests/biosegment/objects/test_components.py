import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage import morphology

from biosegment.geometry import Roi
from biosegment.levels import Level
from biosegment.objects import components
from biosegment.objects.components import blocks, find_components

SHAPE = (11, 40, 50)


@pytest.fixture
def small_files(monkeypatch):
    """Blocks are cut along all axes, though the volume is small."""
    monkeypatch.setattr(components, "SHARD_PX", 16)


def found_in(values, **options):
    pieces = zarr.create_array({}, shape=values.shape, dtype=np.uint32, chunks=(1, 16, 16))
    level = Level(zarr.array(values, chunks=(1, 16, 16)), (1, 1, 1), None)
    found = find_components(level, pieces, **options)
    return found, found.of[np.asarray(pieces)]


def assert_same_partition(found, expected):
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(found)) == len(np.unique(expected))
    np.testing.assert_array_equal(found == 0, expected == 0)


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_blocks_make_no_difference(small_files, connectivity, rank):
    # So full that the components wind through many blocks.
    values = np.random.default_rng(0).choice(3, SHAPE, p=[0.8, 0.12, 0.08]).astype(np.uint8)
    found, image = found_in(values, connectivity=connectivity, block_voxels=3 * 16 * 16)
    structure = ndimage.generate_binary_structure(3, rank)
    ones, count = ndimage.label(values == 1, structure)
    twos, more = ndimage.label(values == 2, structure)
    assert len(found) == count + more > 50
    assert_same_partition(image, np.where(values == 2, twos + count, ones))
    np.testing.assert_array_equal(found.voxels, [0, *np.bincount(image.ravel())[1:]])
    np.testing.assert_array_equal(found.classes[image], values)
    for box, place in zip(found.boxes[1:], ndimage.find_objects(image.astype(int)), strict=True):
        assert [tuple(ends) for ends in box] == [(part.start, part.stop) for part in place]


def test_a_helix_through_all_blocks_is_one(small_files):
    turn = np.linspace(0, 6 * np.pi, 4000)
    z = np.linspace(0, SHAPE[0] - 1, len(turn))
    values = np.zeros(SHAPE, np.uint8)
    places = (z, 20 + 18 * np.sin(turn), 25 + 23 * np.cos(turn))
    values[tuple(np.rint(axis).astype(int) for axis in places)] = 1
    assert len(found_in(values, block_voxels=1)[0]) == 1


def test_objects_are_numbered_from_the_first_slice():
    values = np.zeros(SHAPE, np.uint8)
    values[3:5, :4, :4] = values[0:2, 20:22, 7:9] = values[0:2, 20:22, 3:5] = 1
    image = found_in(values)[1]
    assert (image[0, 20, 3], image[0, 20, 7], image[3, 0, 0]) == (1, 2, 3)


def test_small_ones_are_left_out():
    values = np.zeros(SHAPE, np.uint8)
    values[2:4, 5:8, 5:8] = values[9, 20, 20:25] = 1
    found, image = found_in(values, min_voxels=6)
    assert (len(found), found.voxels[1]) == (1, 18)
    assert image[9, 20, 20] == 0


def test_holes_are_filled_as_far_as_they_are_asked(small_files):
    z, y, x = np.indices(SHAPE)
    values = np.zeros(SHAPE, np.uint8)
    shell = np.abs(np.maximum(np.abs(z - 5), np.maximum(np.abs(y - 17), np.abs(x - 17))) - 4) <= 1
    values[shell] = 1
    hole = ndimage.binary_fill_holes(shell) & ~shell
    options = {"block_voxels": 16 * 16, "connectivity": 26}
    found, image = found_in(values, fill_holes=int(hole.sum()), **options)
    np.testing.assert_array_equal(image > 0, shell | hole)
    assert found.voxels.tolist() == [0, np.count_nonzero(shell | hole)]
    np.testing.assert_array_equal(found_in(values, fill_holes=5, **options)[1] > 0, shell)


def test_what_lies_between_two_objects_or_at_the_border_is_no_hole():
    values = np.zeros((9, 9, 9), np.uint8)
    values[1:8, 1:8, 1:4] = 1
    values[1:8, 1:8, 5:8] = 2
    values[1:8, 1:8, 4] = 1
    # A gap that both enclose, and a pit that is open where the volume ends.
    values[3:5, 3:5, 4] = 0
    values[0:2, 6, 2] = 0
    found, image = found_in(values, fill_holes=100)
    np.testing.assert_array_equal(image, values)
    assert found.classes.tolist() == [0, 1, 2]


def test_fills_as_the_whole_volume_would(small_files):
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1)
    values = (noise > -0.15).astype(np.uint8)
    filled = morphology.remove_small_holes(values > 0, max_size=20, connectivity=1)
    # Holes of one that touch the border stay, unlike those of the library.
    empty, _ = ndimage.label(values == 0)
    border = np.ones(SHAPE, bool)
    border[1:-1, 1:-1, 1:-1] = False
    filled &= (values > 0) | ~np.isin(empty, empty[border])
    assert np.count_nonzero(filled) > np.count_nonzero(values)
    assert ndimage.label(values, np.ones((3, 3, 3)))[1] == 1
    image = found_in(values, fill_holes=20, block_voxels=2 * 16 * 16)[1]
    np.testing.assert_array_equal(image > 0, filled)


def test_blocks_are_whole_files_of_bounded_size(small_files):
    regions = list(blocks(SHAPE, 4 * 16 * 16))
    seen = np.zeros(SHAPE, int)
    for region in regions:
        assert (region.y % 16, region.x % 16) == (0, 0)
        assert np.prod(region.shape) <= 4 * 16 * 16
        seen[region.slices] += 1
    assert (seen == 1).all()
    assert next(iter(blocks((3, 20, 16), 1))) == Roi(0, 0, 0, 1, 16, 16)
