"""What segmenting a whole volume costs: ``python -m benchmarks.segmentation``.

The network of the default size, with random weights, on a made-up volume. The bare network predicts
the same slices from memory, whole, or in squares without anything around them where they are
larger, and keeps nothing. Each run is paired with one of the bare network, so that other load falls
on both. Peak memory is that of a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.import_volume import own_peak_mb
from biosegment.geometry import Roi
from biosegment.store import VolumeStore, volume_path
from importers.synthetic import synthetic_volume
from ml_backend.hardware import keep_memory
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.predictor import Predictor
from ml_backend.segmentation import PATCH_PX, Segmentation, SegmentationPlan
from ml_backend.training import TrainedModel, TrainingSpec

VERSION = "0001-20260101T000000"


def prepare(data_root: Path, slices: int, side: int) -> None:
    """Make a volume and a model."""
    path = volume_path(data_root, "tissue")
    path.parent.mkdir(parents=True)
    tissue, _ = synthetic_volume((1, 512, 512))
    store = VolumeStore.create(path, (slices, side, side), np.uint8)
    tiles = -(-side // 512)
    plane = np.tile(tissue[0], (tiles, tiles))[:side, :side]
    for z in range(slices):
        store.write(Roi(z, 0, 0, 1, side, side), np.roll(plane, 37 * z, 1)[None])
    store.finish((0.0, 255.0), {})
    torch.manual_seed(0)
    network = UNet(UNetSpec(2)).eval()
    trained = TrainedModel(network, TrainingSpec(("background", "cell")), 1, {})
    card = ModelCard.of(
        trained, strategy="random", annotations={}, left_out={}, lead_time_s=0.0, parent=None
    )
    ModelRegistry(data_root).save(1, VERSION, network, card)


def bare(data_root: Path) -> Callable[[], None]:
    """Return what predicts all slices from memory, in squares without overlap."""
    store = VolumeStore.open(data_root, "tissue")
    network, _ = ModelRegistry(data_root).load(1, VERSION)
    predictor = Predictor(network)
    depth, height, width = store.shape
    whole = store.read_unit(Roi.whole(store.shape))
    squares = [
        whole[z, y : y + PATCH_PX, x : x + PATCH_PX]
        for z in range(depth)
        for y in range(0, height, PATCH_PX)
        for x in range(0, width, PATCH_PX)
    ]

    def work() -> None:
        for _ in predictor.probabilities(squares):
            pass

    return work


def segment(data_root: Path) -> None:
    """Segment the volume, written labels and coarser levels included."""
    store = VolumeStore.open(data_root, "tissue")
    plan = SegmentationPlan(1, VERSION)
    segmentation = Segmentation(store, ModelRegistry(data_root), plan)
    with segmentation.begin("cells", overwrite=True) as labels:
        segmentation.run(labels, lambda done, total: None)


def peak_mb(data_root: Path) -> float:
    """Return the peak memory of a process that segments the volume."""
    command = [sys.executable, "-m", "benchmarks.segmentation", "--child", str(data_root)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        keep_memory()
        segment(options.child)
        print(own_peak_mb())
        return
    keep_memory()
    with tempfile.TemporaryDirectory() as name:
        folder, larger = Path(name) / "one", Path(name) / "four"
        prepare(folder, options.slices, options.side)
        prepare(larger, 4 * options.slices, options.side)
        work = bare(folder)
        work()
        pairs = [(seconds(work), seconds(lambda: segment(folder))) for _ in range(options.repeats)]
        megapixels = options.slices * options.side**2 / 1e6
        print(f"{options.slices} slices of {options.side} x {options.side}")
        print(f"bare network   {megapixels / median(pair[0] for pair in pairs):6.2f} Mpx/s")
        print(f"segmentation   {megapixels / median(pair[1] for pair in pairs):6.2f} Mpx/s", end="")
        print(f"  {100 * median(first / second for first, second in pairs):4.0f} % of that")
        times = median(seconds(lambda: segment(larger)) / pair[1] for pair in pairs)
        print(f"a volume four times larger takes {times:.2f} times as long")
        print(
            f"peak memory    {peak_mb(folder):6.0f} MB, four times larger {peak_mb(larger):6.0f} MB"
        )


if __name__ == "__main__":
    main()
