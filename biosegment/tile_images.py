"""Tiles of a volume as PNG files, where Label Studio finds them."""

import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from biosegment.disk import explain_full_disk, write_atomically
from biosegment.geometry import Roi
from biosegment.progress import Progress, ignore
from biosegment.store import VolumeStore
from biosegment.tiles import Tile, tile_image_path

# Nothing but runs and entropy is left in noise once the filters took the slopes out of it: as small
# as Pillow's default, in two thirds of the time.
_PNG = {"compress_level": 1, "compress_type": zlib.Z_RLE}
_WORKERS = 4


def write_tiles(
    store: VolumeStore,
    tiles: Iterable[Tile],
    data_root: Path,
    context: int = 0,
    progress: Progress = ignore,
) -> None:
    """Write the tiles of a volume as 8-bit grey PNGs; files that exist are kept.

    Each slice is read once, and one slice is in memory at a time.

    Parameters
    ----------
    store
        The volume.
    tiles
        Windows of its slices, in any order.
    data_root
        Where :func:`biosegment.tiles.tile_image_path` leads from.
    context
        How many slices above and below each tile are written too, as far as the volume goes.
    progress
        Told the tiles done and in all, those that existed and those of the context included.

    Raises
    ------
    RegionError
        If a tile leaves the volume.
    DiskFullError
        If the disk is too small.
    """
    tiles_of_slice = _by_slice(store, tiles, context)
    total = sum(map(len, tiles_of_slice.values()))
    done = 0
    progress(done, total)
    with explain_full_disk(data_root), ThreadPoolExecutor(_WORKERS) as pool:
        for _, slice_tiles in sorted(tiles_of_slice.items()):
            missing = [
                (tile, path)
                for tile in slice_tiles
                if not (path := data_root / tile_image_path(tile)).exists()
            ]
            if missing:
                _write_slice(store, missing, pool)
            done += len(slice_tiles)
            progress(done, total)


def _by_slice(store: VolumeStore, tiles: Iterable[Tile], context: int) -> dict[int, list[Tile]]:
    """Return each tile and neighbour to be written, once, under its slice."""
    windows: dict[int, dict[Tile, None]] = {}
    depth = store.shape[0]
    for tile in tiles:
        tile.roi.check_within(store.shape)
        for z in range(max(0, tile.z - context), min(depth, tile.z + context + 1)):
            windows.setdefault(z, {})[replace(tile, z=z)] = None
    return {z: list(slice_tiles) for z, slice_tiles in windows.items()}


def _write_slice(
    store: VolumeStore, tiles: list[tuple[Tile, Path]], pool: ThreadPoolExecutor
) -> None:
    box = _bounding_box([tile for tile, _ in tiles])
    greys = store.to_display(store.read(box))[0]

    def write(tile: Tile, path: Path) -> None:
        y, x = tile.y - box.y, tile.x - box.x
        write_atomically(path, _png(greys[y : y + tile.height, x : x + tile.width]))

    for folder in {path.parent for _, path in tiles}:
        folder.mkdir(parents=True, exist_ok=True)
    # Pillow compresses without holding the interpreter's lock. The list raises what failed.
    list(pool.map(write, *zip(*tiles, strict=True)))


def _bounding_box(tiles: list[Tile]) -> Roi:
    y, x = min(tile.y for tile in tiles), min(tile.x for tile in tiles)
    height = max(tile.y + tile.height for tile in tiles) - y
    width = max(tile.x + tile.width for tile in tiles) - x
    return Roi(tiles[0].z, y, x, 1, height, width)


def _png(greys: npt.NDArray[np.uint8]) -> bytes:
    content = BytesIO()
    Image.fromarray(greys).save(content, "PNG", **_PNG)
    return content.getvalue()
