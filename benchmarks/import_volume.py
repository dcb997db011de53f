"""Time an import against bare reading and writing: ``python -m benchmarks.import_volume``.

The import reads a multi-page TIFF, makes the volume store and writes all tiles as PNGs. The
baseline is one loop that reads each page with tifffile and saves the same tiles with Pillow, as
both come. Both run in turn on the same made-up stack. Peak memory is that of a process of its own
that imports, for N slices, 4 N and 16 N: it levels off, once the allocator's free lists are full.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import tifffile
from PIL import Image

from benchmarks.measuring import own_peak_mb, seconds
from biosegment.geometry import Roi
from biosegment.tile_images import write_tiles
from biosegment.tiles import grid_tiles
from importers.convert import import_volume
from importers.synthetic import synthetic_volume

SIDE_PX = 1024
TILE_PX = 256


def write_source(path: Path, slices: int) -> None:
    """Write an uncompressed stack, of few made-up slices over and over."""
    pages, _ = synthetic_volume((min(slices, 5), SIDE_PX, SIDE_PX))
    with tifffile.TiffWriter(path) as writer:
        for z in range(slices):
            writer.write(pages[z % len(pages)], contiguous=True, photometric="minisblack")


def run_import(source: Path, folder: Path) -> None:
    """Import a stack and write its tiles, as the command line does."""
    store = import_volume(source, folder, "stack")
    tiles = grid_tiles(store.name, Roi.whole(store.shape), (TILE_PX, TILE_PX))
    write_tiles(store, tiles, folder)


def run_baseline(source: Path, folder: Path) -> None:
    """Read each page and save its tiles, nothing else."""
    folder.mkdir(parents=True)
    with tifffile.TiffFile(source) as tiff:
        for z, page in enumerate(tiff.pages):
            image = page.asarray()
            for y in range(0, SIDE_PX, TILE_PX):
                for x in range(0, SIDE_PX, TILE_PX):
                    tile = Image.fromarray(image[y : y + TILE_PX, x : x + TILE_PX])
                    tile.save(folder / f"z{z:05}_y{y:06}_x{x:06}.png")


def anew(run: Callable[[Path, Path], None], source: Path, folder: Path) -> float:
    """Return how long one run takes into a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    return seconds(lambda: run(source, folder))


def peak_mb(source: Path, folder: Path) -> float:
    """Return the peak resident memory of a process that imports a stack, MB."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.import_volume",
        "--child",
        str(source),
        str(folder),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_import(*arguments.child)
        print(own_peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "stack.tif"
        write_source(source, arguments.slices)
        rounds = [
            (
                anew(run_baseline, source, folder / "baseline"),
                anew(run_import, source, folder / "import"),
            )
            for _ in range(arguments.repeats)
        ]
        baseline, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(bare / full for bare, full in rounds)
        print(f"{arguments.slices} slices of {SIDE_PX}x{SIDE_PX}, tiles of {TILE_PX}x{TILE_PX}")
        print(f"tifffile + Pillow alone     {baseline:7.2f} s")
        print(f"import: store and tiles     {ours:7.2f} s")
        print(f"speed of the import         {100 * ratio:5.0f} %  of reading and writing alone")
        for count in (arguments.slices, 4 * arguments.slices, 16 * arguments.slices):
            write_source(source, count)
            print(f"peak memory, {count:5} slices  {peak_mb(source, folder / 'import'):7.0f} MB")


if __name__ == "__main__":
    main()
