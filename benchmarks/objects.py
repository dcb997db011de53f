"""What telling objects apart and measuring them costs: ``python -m benchmarks.objects``.

A made-up volume of blobs. The baseline has it all in memory: one call of SciPy labels it, another
finds the boxes, a third counts. Each run is paired with one of the baseline, so that other load
falls on both. Peak memory is that of a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from scipy import ndimage

from benchmarks.measuring import own_peak_mb, seconds
from biosegment.geometry import Roi, VoxelSize
from biosegment.objects.instances import ObjectsPlan, make_objects
from biosegment.objects.measurements import measure
from biosegment.store import VolumeStore, volume_path


def prepare(data_root: Path, slices: int, side: int) -> None:
    """Make a volume with labels: 6 % of it blobs, some thousand in a gigavoxel."""
    path = volume_path(data_root, "tissue")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, (slices, side, side), np.uint8, VoxelSize(10, 10, 10))
    store.finish((0.0, 255.0), {})
    store.create_labels("cells", ["cell"])
    noise = np.random.default_rng(0).normal(size=(128, 256, 256))
    smooth = ndimage.gaussian_filter(noise, 6, mode="wrap")
    blobs = (smooth > np.quantile(smooth, 0.94)).astype(np.uint8)
    tiles = -(-side // 256)
    for z in range(slices):
        plane = np.tile(blobs[z % len(blobs)], (tiles, tiles))[None, :side, :side]
        store.write_labels("cells", Roi(z, 0, 0, 1, side, side), plane)
        store.write(Roi(z, 0, 0, 1, side, side), 40 * plane)
    store.finish_labels("cells")


def find(data_root: Path) -> None:
    """Find all objects and write them."""
    store = VolumeStore.open(data_root, "tissue")
    make_objects(store, ObjectsPlan("cells"), "objects", lambda *_: None, overwrite=True)


def measured(data_root: Path) -> None:
    """Measure all objects."""
    measure(VolumeStore.open(data_root, "tissue"), "objects", lambda *_: None)


def peak_mb(data_root: Path) -> float:
    """Return the peak memory of a process that does both."""
    command = [sys.executable, "-m", "benchmarks.objects", "--child", str(data_root)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        find(options.child)
        measured(options.child)
        print(own_peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder, larger = Path(name) / "one", Path(name) / "four"
        prepare(folder, options.slices, options.side)
        prepare(larger, 4 * options.slices, options.side)
        shape = Roi.whole((options.slices, options.side, options.side))
        values = VolumeStore.open(folder, "tissue").read_labels("cells", shape)

        def bare() -> None:
            numbers, _ = ndimage.label(values, np.ones((3, 3, 3)))
            ndimage.find_objects(numbers)
            np.bincount(numbers.ravel())

        times = [
            (seconds(bare), seconds(lambda: find(folder)), seconds(lambda: measured(folder)))
            for _ in range(options.repeats)
        ]
        megavoxels = values.size / 1e6
        print(f"{options.slices} slices of {options.side} x {options.side}")
        for place, what in enumerate(("SciPy in memory", "objects", "measure")):
            ratio = median(each[place] / each[0] for each in times)
            speed = megavoxels / median(each[place] for each in times)
            print(f"{what:16} {speed:6.1f} Mvx/s  {ratio:5.2f} times as long")
        for place, work in ((1, find), (2, measured)):
            longer = median(seconds(lambda: work(larger)) / each[place] for each in times)  # noqa: B023
            print(
                f"{work.__name__:16} of a volume four times larger takes {longer:.2f} times as long"
            )
        print(f"peak memory {peak_mb(folder):.0f} MB, four times larger {peak_mb(larger):.0f} MB")


if __name__ == "__main__":
    main()
