"""What the prediction engine gains: ``python -m benchmarks.engine``.

The engine against the same network as torch computes it if left alone, in float32 and one image
after the other: both in one process, on the same images, in turn, so that other load falls on both.
Where ``BIOSEGMENT_TEST_DATA`` names a folder with the VNC sample, a short training on its upper
half gives weights by which both predict the lower half: rounding must not be seen in the result.
"""

import argparse
import copy
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from benchmarks.measuring import seconds
from ml_backend.dataset import LabelledTile
from ml_backend.hardware import best_device, keep_memory
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.predictor import Predictor
from ml_backend.training import TrainingSpec, train

TILE_PX = 256
TILES = 24
Images = Iterable[NDArray[np.float32]]


def plain(network: UNet, images: Images) -> Iterator[NDArray[np.float32]]:
    """Yield the class probabilities (C, H, W) of images whose sides are multiples of the stride."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        for image in images:
            logits = network(torch.from_numpy(image)[None, None].to(device))
            yield logits.softmax(dim=1)[0].cpu().numpy()


def compare_speed(side: int, repeats: int) -> None:
    """Print how fast both are, with random weights."""
    torch.manual_seed(0)
    network = UNet(UNetSpec(2)).eval().to(best_device())
    predictor = Predictor(copy.deepcopy(network))
    images = list(np.random.default_rng(0).random((2, side, side), np.float32))
    runs = (lambda: list(plain(network, images)), lambda: list(predictor.probabilities(images)))
    for run in runs:
        run()
    pairs = [(seconds(runs[0]), seconds(runs[1])) for _ in range(repeats)]
    megapixels = len(images) * side**2 / 1e6
    print(f"images of {side} x {side}, on {predictor.device}")
    for name, index in (("float32", 0), ("engine", 1)):
        print(f"{name:8} {megapixels / median(pair[index] for pair in pairs):7.2f} Mpx/s")
    ratios = [first / second for first, second in pairs]
    print(
        f"ratio    {median(ratios):7.2f} (bar: at least 2.5; "
        f"{min(ratios):.2f} to {max(ratios):.2f} over {repeats} pairs)"
    )


def compare_results(folder: Path, effort: float) -> None:
    """Print the IoU of both on half of the VNC sample, by weights learned on the other half."""
    raw = tifffile.imread(folder / "vnc" / "raw.tif")
    # Not every slice says 255 for mitochondria.
    masks = (tifffile.imread(folder / "vnc" / "mitochondria.tif") > 0).astype(np.uint8)
    black, white = np.percentile(raw, [0.5, 99.5])
    images = ((raw - black) / (white - black)).clip(0, 1).astype(np.float32)
    half = raw.shape[1] // 2
    rng = np.random.default_rng(0)
    tiles = []
    for _ in range(TILES):
        z, y, x = rng.integers((len(raw), half - TILE_PX, raw.shape[2] - TILE_PX))
        where = np.s_[z, y : y + TILE_PX, x : x + TILE_PX]
        tiles.append(LabelledTile(images[where], masks[where]))
    spec = TrainingSpec(("background", "mitochondria"), max_growth=1.0, effort=effort)
    network = train(tiles, [], spec).network.to(best_device())
    test, truth = images[:, half:], masks[:, half:]
    exact = iou(plain(network, map(np.ascontiguousarray, test)), truth)
    fast = iou(Predictor(network).probabilities(test), truth)
    print(f"IoU      {exact:.4f} in float32, {fast:.4f} by the engine")
    print(f"gap      {abs(exact - fast):.4f} (bar: at most 0.002)")


def iou(probs: Images, truth: NDArray[np.uint8]) -> float:
    """Return the Jaccard index of class 1 over all slices."""
    both = either = 0
    for each, mask in zip(probs, truth, strict=True):
        found = each.argmax(axis=0) == 1
        both += int((found & (mask == 1)).sum())
        either += int((found | (mask == 1)).sum())
    return both / either


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--effort", type=float, default=1.0, help="of the training")
    options = parser.parse_args()
    keep_memory()
    compare_speed(options.side, options.repeats)
    folder = os.environ.get("BIOSEGMENT_TEST_DATA")
    if folder:
        compare_results(Path(folder), options.effort)
    else:
        print("BIOSEGMENT_TEST_DATA names no labelled sample: no IoU")


if __name__ == "__main__":
    main()
