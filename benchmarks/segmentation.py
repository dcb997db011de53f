"""What segmenting a whole volume costs: ``python -m benchmarks.segmentation``.

The network of the default size, with random weights, on a made-up volume. The bare network predicts
the same slices from memory, whole, or in squares without anything around them where they are
larger, and keeps nothing. Each run is paired with one of the bare network, so that other load falls
on both. Peak memory is that of a process of its own.

MONAI's sliding windows run the same network, in the same precision and with the same overlap, on
the same slices in memory. Both cut them finely then, so that slices of any size are cut. Workers of
Dask have one thread each, and are running when the clock starts. Two processes that do nothing but
compute tell how far two cores of a machine get at all: they share its memory, and often its power.
"""

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from distributed import Client
from monai.inferers import sliding_window_inference
from torch import Tensor

from benchmarks.measuring import own_peak_mb, seconds
from biosegment.geometry import Roi
from biosegment.progress import ignore
from biosegment.store import VolumeStore, volume_path
from importers.synthetic import synthetic_volume
from ml_backend.hardware import best_device, has_bfloat16, keep_memory
from ml_backend.model.folded import folded
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.predictor import Predictor
from ml_backend.segmentation import PATCH_PX, Segmentation, SegmentationPlan
from ml_backend.segmentation_cluster import cluster, run_on
from ml_backend.training import TrainedModel, TrainingSpec

VERSION = "0001-20260101T000000"
_BARE: list[Callable[[], None]] = []
WINDOW_PX = 512
"""Rows and columns of a window without what overlaps."""


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


def sliding(data_root: Path) -> Callable[[], None]:
    """Return what predicts all slices from memory by MONAI's sliding windows."""
    store = VolumeStore.open(data_root, "tissue")
    network, _ = ModelRegistry(data_root).load(1, VERSION)
    device = best_device()
    dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
    fast = folded(network, dtype).to(device).to(memory_format=torch.channels_last)
    whole = torch.from_numpy(store.read_unit(Roi.whole(store.shape)))
    side = min(WINDOW_PX + 2 * network.reach_px, *store.shape[1:])

    def predict(windows: Tensor) -> Tensor:
        logits: Tensor = fast(windows.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def work() -> None:
        with torch.inference_mode():
            for image in whole:
                logits = sliding_window_inference(
                    image[None, None].to(device),
                    roi_size=(side, side),
                    sw_batch_size=1,
                    predictor=predict,
                    overlap=2 * network.reach_px / side,
                )
                logits.argmax(dim=1).to(torch.uint8).cpu().numpy()

    return work


def segment(data_root: Path, patch_px: int = PATCH_PX, client: Client | None = None) -> None:
    """Segment the volume, here or by single-thread workers, with coarser levels of the labels."""
    store = VolumeStore.open(data_root, "tissue")
    plan = SegmentationPlan(1, VERSION, patch_px=patch_px)
    segmentation = Segmentation(store, ModelRegistry(data_root), plan)
    with segmentation.begin("cells", overwrite=True) as labels:
        if client is None:
            segmentation.run(labels, ignore)
        else:
            run_on(client, segmentation, labels, ignore, threads=1)


def compare(first: Callable[[], None], second: Callable[[], None], repeats: int) -> float:
    """Return how many times as long the first takes as the second: median over pairs."""
    return median(seconds(first) / seconds(second) for _ in range(repeats))


def two_processes(data_root: Path, repeats: int) -> float:
    """Return how many times as fast two processes of the bare network are as one, a thread each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _prepare_bare, (data_root,)) as pool:
        ratios = []
        for _ in range(repeats + 1):
            alone = seconds(lambda: pool.submit(_run_bare).result())
            together = seconds(lambda: wait([pool.submit(_run_bare) for _ in range(2)]))
            ratios.append(2 * alone / together)
    # The first round is each process's first.
    return median(ratios[1:])


def _prepare_bare(data_root: Path) -> None:
    keep_memory()
    torch.set_num_threads(1)
    _BARE.append(bare(data_root))


def _run_bare() -> None:
    _BARE[0]()


def peak_mb(data_root: Path) -> float:
    """Return the peak memory of a process that segments the volume."""
    command = [sys.executable, "-m", "benchmarks.segmentation", "--child", str(data_root)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def cost(folder: Path, larger: Path, megapixels: float, repeats: int) -> None:
    """Print what a segmentation takes, beside the bare network and of a larger volume."""
    work = bare(folder)
    work()
    pairs = [(seconds(work), seconds(lambda: segment(folder))) for _ in range(repeats)]
    print(f"bare network   {megapixels / median(pair[0] for pair in pairs):6.2f} Mpx/s")
    print(f"segmentation   {megapixels / median(pair[1] for pair in pairs):6.2f} Mpx/s", end="")
    print(f"  {100 * median(first / second for first, second in pairs):4.0f} % of that")
    times = median(seconds(lambda: segment(larger)) / pair[1] for pair in pairs)
    print(f"a volume four times larger takes {times:.2f} times as long")
    print(f"peak memory    {peak_mb(folder):6.0f} MB, four times larger {peak_mb(larger):6.0f} MB")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_memory()
    if options.child:
        segment(options.child)
        print(own_peak_mb())
        return
    with tempfile.TemporaryDirectory() as name:
        folder, larger = Path(name) / "one", Path(name) / "four"
        prepare(folder, options.slices, options.side)
        prepare(larger, 4 * options.slices, options.side)
        print(f"{options.slices} slices of {options.side} x {options.side}")
        cost(folder, larger, options.slices * options.side**2 / 1e6, options.repeats)
        windows = sliding(folder)
        windows()
        ratio = compare(windows, partial(segment, folder, WINDOW_PX), options.repeats)
        print(f"MONAI's sliding windows take {ratio:.2f} times as long (bar: at least 1)")
        with cluster(1, None) as one, cluster(2, None) as two:
            for client in (one, two):
                segment(folder, client=client)
            alone, together = (partial(segment, larger, client=client) for client in (one, two))
            ratio = compare(alone, together, options.repeats)
        print(f"two workers are {ratio:.2f} times as fast as one (bar: at least 1.8)")
        ratio = two_processes(folder, options.repeats)
        print(f"two processes of the bare network are {ratio:.2f} times as fast as one")


if __name__ == "__main__":
    main()
