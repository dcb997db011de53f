"""Import a stack larger than memory, against a plain copy: ``python -m benchmarks.large_volume``.

The stack is made page by page. The baseline reads each page with tifffile and writes it into a zarr
array of the same chunks, shards and codec, and makes no coarser levels. Each runs in a process of
its own, which tells its peak memory. A third import is killed at a random moment, started again,
and compared with the one that was not interrupted, file by file.

``--gigabytes 20`` needs three times that on the disk.
"""

import argparse
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr

from benchmarks.measuring import own_peak_mb
from biosegment import ome_zarr
from biosegment.geometry import Roi
from importers.convert import import_volume
from importers.synthetic import synthetic_volume

SIDE_PX = 8192
BLOCK_PX = 1024


def write_source(path: Path, slices: int) -> None:
    """Write an uncompressed BigTIFF whose pages are made-up tissue in ever other arrangement."""
    tissue, _ = synthetic_volume((1, BLOCK_PX, BLOCK_PX))
    blocks = SIDE_PX // BLOCK_PX
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for z in range(slices):
            rng = np.random.default_rng(z)
            rows = [
                np.hstack([np.roll(tissue[0], rng.integers(BLOCK_PX), 0) for _ in range(blocks)])
                for _ in range(blocks)
            ]
            writer.write(np.vstack(rows), contiguous=True, photometric="minisblack")


def copy(source: Path, folder: Path) -> None:
    """Read every page and write it, nothing else."""
    with tifffile.TiffFile(source) as tiff:
        shape = (len(tiff.pages), SIDE_PX, SIDE_PX)
        group = zarr.open_group(folder / "copy.zarr", mode="w-", zarr_format=3)
        ome_zarr.create_image(group, "copy", shape, np.uint8, None)
        array = group["0"]
        for z, page in enumerate(tiff.pages):
            array[Roi.slice_of(shape, z).slices] = page.asarray()[None]


WORK = {"copy": copy, "import": lambda source, folder: import_volume(source, folder, "stack")}


def start(work: str, source: Path, folder: Path) -> subprocess.Popen[str]:
    """Start a process that does one of the two."""
    command = [sys.executable, "-m", "benchmarks.large_volume", "--child", work]
    return subprocess.Popen([*command, str(source), str(folder)], stdout=subprocess.PIPE, text=True)


def measured(work: str, source: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory in MB of a process that does one of the two."""
    began = time.perf_counter()
    told, _ = start(work, source, folder).communicate()
    return time.perf_counter() - began, float(told)


def survives_a_kill(source: Path, whole: Path, folder: Path, limit_s: float) -> tuple[float, bool]:
    """Kill an import at a random moment, repeat it; return when, and whether it is the same."""
    after = random.Random(os.urandom(8)).uniform(0.1, 0.9) * limit_s
    process = start("import", source, folder)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    import_volume(source, folder, "stack")
    names = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    again = [path for path in (folder / "volumes").rglob("*") if path.is_file()]
    found = {path.relative_to(folder) for path in again if path.suffix != ".lock"}
    _, differing, missing = filecmp.cmpfiles(whole, folder, map(str, names), shallow=False)
    expected = {name for name in names if name.suffix != ".lock"}
    return after, not differing and not missing and found == expected


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work, source, folder = arguments.child
        WORK[work](Path(source), Path(folder))
        print(own_peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "stack.tif"
        slices = max(4, round(arguments.gigabytes * 1e9 / SIDE_PX**2))
        write_source(source, slices)
        size_mb = source.stat().st_size / 1e6
        copied_s, copied_mb = measured("copy", source, folder / "plain")
        shutil.rmtree(folder / "plain")
        import_s, import_mb = measured("import", source, folder / "data")
        print(f"{slices} slices of {SIDE_PX}x{SIDE_PX}, {size_mb / 1e3:.1f} GB")
        print(f"tifffile + zarr alone   {copied_s:7.1f} s  {size_mb / copied_s:5.0f} MB/s", end="")
        print(f"  peak {copied_mb:5.0f} MB")
        print(f"import, with pyramid    {import_s:7.1f} s  {size_mb / import_s:5.0f} MB/s", end="")
        print(f"  peak {import_mb:5.0f} MB")
        print(f"speed of the import     {100 * copied_s / import_s:6.0f} %  of the plain copy")
        after, same = survives_a_kill(source, folder / "data", folder / "killed", import_s)
        print(f"killed after {after:.1f} s and repeated: {'identical' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
