"""What exports of labels cost: ``python -m benchmarks.export_volume``.

A made-up volume of blobs with two classes, written as Imaris and as TIFF, from the store. The
baselines write what is in such a file, read into memory before the clock starts, by h5py and
tifffile alone: every channel in every resolution in the same blocks and with the same compression,
or every page. All of them are done when the file is on the disk. Each run is paired with one of the
baseline, so that other load falls on both. Peak memory is that of a process of its own, with
``--gigabytes`` of labels.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import tifffile
from scipy import ndimage

from benchmarks.measuring import own_peak_mb, seconds
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore, volume_path
from exporters.volume import VolumePlan, export_volume

MEMORY_SIDE_PX = 8192


def prepare(data_root: Path, slices: int, side: int) -> None:
    """Make a volume whose labels are blobs of two classes, 6 % of it each."""
    path = volume_path(data_root, "tissue")
    path.parent.mkdir(parents=True)
    store = VolumeStore.create(path, (slices, side, side), np.uint8, VoxelSize(30, 8, 8))
    store.finish((0.0, 255.0), {})
    store.create_labels("cells", ["mitochondria", "vesicles"])
    noise = np.random.default_rng(0).normal(size=(64, 1024, 1024))
    smooth = ndimage.gaussian_filter(noise, (4, 12, 12), mode="wrap")
    blobs = np.digitize(smooth, np.quantile(smooth, (0.88, 0.94))).astype(np.uint8)
    tiles = -(-side // 1024)
    for z in range(slices):
        plane = np.tile(blobs[z % len(blobs)], (tiles, tiles))[None, :side, :side]
        store.write_labels("cells", Roi(z, 0, 0, 1, side, side), plane)
    store.finish_labels("cells")


def export(data_root: Path, format: str) -> Path:
    """Write the labels; return the file."""
    plan = VolumePlan("tissue", format, image=False, labels="cells", force=True)
    written = export_volume(plan, data_root / "out", data_root, lambda *_: None)
    return written.paths[0]


def plain_imaris(exported: Path, path: Path) -> Callable[[], Path]:
    """Return what writes all voxels of an Imaris file by h5py alone."""
    found: list[tuple[str, Any, dict[str, Any]]] = []

    def keep(name: str, data: Any) -> None:  # noqa: ANN401 (h5py has no types)
        if name.endswith("/Data"):
            how = {"chunks": data.chunks, "shuffle": data.shuffle}
            how |= {"compression": data.compression, "compression_opts": data.compression_opts}
            found.append((name, data[...], how))

    with h5py.File(exported) as file:
        file.visititems(keep)

    def write() -> Path:
        with h5py.File(path, "w") as file:
            for name, values, how in found:
                file.create_dataset(name, data=values, **how)
        return path

    return write


def plain_tiff(exported: Path, path: Path) -> Callable[[], Path]:
    """Return what writes all pages of a TIFF by tifffile alone."""
    values = tifffile.imread(exported)

    def write() -> Path:
        tifffile.imwrite(path, values, imagej=True)
        return path

    return write


def on_disk(write: Callable[[], Path]) -> None:
    """Write a file that was not there, and wait until it is on the disk."""
    path = write()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.unlink()


PLAIN = {"ims": plain_imaris, "tiff": plain_tiff}


def peak_mb(data_root: Path, format: str) -> float:
    """Return the peak memory of a process that exports."""
    command = [sys.executable, "-m", "benchmarks.export_volume", "--child", str(data_root), format]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        data_root, format = options.child
        export(Path(data_root), format)
        print(own_peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "speed"
        prepare(folder, options.slices, options.side)
        megabytes = options.slices * options.side**2 / 1e6
        print(f"{options.slices} slices of {options.side} x {options.side}")
        for format, plain in PLAIN.items():
            alone = plain(export(folder, format), Path(name) / "plain")
            ours = partial(export, folder, format)
            pairs = [
                (seconds(partial(on_disk, alone)), seconds(partial(on_disk, ours)))
                for _ in range(options.repeats)
            ]
            speed = megabytes / median(pair[1] for pair in pairs)
            ratio = 100 * median(pair[0] / pair[1] for pair in pairs)
            print(f"{format:5} {speed:6.0f} MB/s, {ratio:4.0f} % of the plain writer (bar: 50 %)")
        folder = Path(name) / "memory"
        slices = max(1, round(options.gigabytes * 1e9 / MEMORY_SIDE_PX**2))
        prepare(folder, slices, MEMORY_SIDE_PX)
        size = f"{slices} slices of {MEMORY_SIDE_PX} x {MEMORY_SIDE_PX}"
        for format in PLAIN:
            peak = f"{peak_mb(folder, format):4.0f} MB"
            print(f"{format:5} peak memory {peak} of {size} (bar: 1000 MB)")


if __name__ == "__main__":
    main()
