import itertools
import multiprocessing
import resource
import signal

import numpy as np
import pytest
from PIL import Image

from biosegment.errors import DiskFullError, RegionError
from biosegment.geometry import Roi
from biosegment.store import VolumeStore, volume_path
from biosegment.tile_images import write_tiles
from biosegment.tiles import Tile, grid_tiles, random_tiles, tile_image_path

SHAPE = (6, 90, 130)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def make_store(data_root):
    store = VolumeStore.create(volume_path(data_root, "noise"), SHAPE, "uint16")
    store.write(Roi.whole(SHAPE), np.random.default_rng(0).integers(0, 4000, SHAPE, "uint16"))
    store.finish((500, 3500), {})
    return store


def written(data_root):
    return {path.relative_to(data_root) for path in data_root.glob("tiles/**/*") if path.is_file()}


def test_a_tile_shows_its_window_of_the_volume_in_8_bits(store, tmp_path):
    tiles = list(grid_tiles("noise", Roi.whole(SHAPE), (64, 48), overlap_px=10))
    write_tiles(store, tiles, tmp_path)
    for tile in tiles:
        with Image.open(tmp_path / tile_image_path(tile)) as image:
            assert image.mode == "L"
            shown = np.asarray(image)
        np.testing.assert_array_equal(shown, store.to_display(store.read(tile.roi))[0])
    assert len(written(tmp_path)) == len(set(tiles))


def test_scattered_tiles_in_any_order(store, tmp_path):
    tiles = random_tiles("noise", Roi.whole(SHAPE), (32, 32), 20, seed=1)[::-1]
    write_tiles(store, iter(tiles), tmp_path)
    assert written(tmp_path) == {
        tmp_path.joinpath(tile_image_path(tile)).relative_to(tmp_path) for tile in tiles
    }


def test_neighbours_end_where_the_volume_ends(store, tmp_path):
    tiles = [Tile("noise", z, 8, 9, 16, 16) for z in (0, 4)]
    told = []
    write_tiles(store, tiles, tmp_path, context=2, progress=lambda *now: told.append(now))
    slices = sorted(int(path.name[1:6]) for path in written(tmp_path))
    assert slices == [0, 1, 2, 3, 4, 5]
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)


def test_files_that_exist_are_kept(store, tmp_path):
    tiles = list(itertools.islice(grid_tiles("noise", Roi.whole(SHAPE), (64, 64)), 3))
    kept = tmp_path / tile_image_path(tiles[1])
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    write_tiles(store, tiles, tmp_path)
    assert kept.read_bytes() == b"kept"
    assert len(written(tmp_path)) == 3


def test_a_tile_outside_the_volume_is_refused_before_anything_is_written(store, tmp_path):
    tiles = [Tile("noise", 0, 0, 0, 16, 16), Tile("noise", 0, 80, 0, 16, 16)]
    with pytest.raises(RegionError):
        write_tiles(store, tiles, tmp_path)
    assert written(tmp_path) == set()


def _write_with_little_room(data_root, outcome):
    store = VolumeStore.open(data_root, "noise")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_tiles(store, grid_tiles("noise", Roi.whole(SHAPE), (64, 64)), data_root)
    except DiskFullError as exc:
        outcome.send(str(exc))


def test_a_full_disk_leaves_no_part_of_a_picture(store, tmp_path):
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_write_with_little_room, args=(tmp_path, send)
    )
    process.start()
    process.join(60)
    assert receive.poll()
    assert "Nothing more can be written" in receive.recv()
    assert written(tmp_path) == set()
