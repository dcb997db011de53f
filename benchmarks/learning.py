"""Simulated active learning: quality over labels, and the seconds that a round takes.

``python -m benchmarks.learning --data DIR`` reads raw.tif and mitochondria.tif from DIR; without it
a synthetic volume takes their place. The volume is split into halves along y, and ground truth
plays the expert: candidate tiles in one half, the Jaccard index over the whole of the other.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from importers.samples import SampleFiles, write_synthetic
from ml_backend.dataset import LabelledTile
from ml_backend.metrics import evaluate
from ml_backend.predictor import Predictor
from ml_backend.strategies import Pool, strategy_named
from ml_backend.training import Parent, TrainingSpec, train

CLASSES = ("background", "mitochondria")


@dataclass(frozen=True, slots=True)
class Protocol:
    """Sizes of the simulation."""

    pool: int = 1000
    initial: int = 20
    per_round: int = 20
    labels: int = 120
    tile_px: int = 128


@dataclass(frozen=True, slots=True)
class Round:
    """What one round brought, and what it took."""

    labels: int
    iou: float
    train_s: float
    score_s: float


def read_halves(sample: SampleFiles) -> tuple[list[LabelledTile], list[LabelledTile]]:
    """Return the slices of the upper and of the lower half along y."""
    raw = tifffile.imread(sample.raw).astype(np.float32)
    low, high = np.percentile(raw, (0.5, 99.5))
    images = np.clip((raw - low) / (high - low), 0, 1).astype(np.float32)
    # Not > 127: some published masks hold 1 in some slices and 255 in others.
    masks = (tifffile.imread(sample.labels) > 0).astype(np.uint8)
    middle = images.shape[1] // 2
    slices = list(zip(images, masks, strict=True))
    return (
        [LabelledTile(image[:middle], mask[:middle]) for image, mask in slices],
        [LabelledTile(image[middle:], mask[middle:]) for image, mask in slices],
    )


def random_pool(
    slices: Sequence[LabelledTile], protocol: Protocol, rng: np.random.Generator
) -> list[LabelledTile]:
    """Return tiles at random places."""
    side = protocol.tile_px
    pool = []
    for _ in range(protocol.pool):
        whole = slices[int(rng.integers(len(slices)))]
        y, x = (rng.integers(length - side + 1) for length in whole.mask.shape)
        window = slice(y, y + side), slice(x, x + side)
        pool.append(LabelledTile(whole.image[window], whole.mask[window]))
    return pool


def simulate(
    strategy_name: str,
    candidates: Sequence[LabelledTile],
    test: Sequence[LabelledTile],
    spec: TrainingSpec,
    protocol: Protocol,
) -> Iterator[Round]:
    """Yield the rounds of one run; its seed is that of `spec`."""
    rng = np.random.default_rng(spec.seed)
    pool = random_pool(candidates, protocol, rng)
    strategy = strategy_named(strategy_name)
    labelled = list(range(protocol.initial))
    parent = None
    while True:
        start = time.perf_counter()
        # A seed of its own for every round, as the service has: other crops, other noise.
        recipe = replace(spec, seed=1000 * spec.seed + len(labelled))
        model = train([pool[index] for index in labelled], [], recipe, parent)
        parent = Parent(model.network, spec.classes)
        trained = time.perf_counter()
        predictor = Predictor(model.network)
        left = sorted(set(range(len(pool))) - set(labelled))
        views = predictor.views((pool[index].image for index in left), strategy.needs, recipe.seed)
        known = predictor.views((pool[index].image for index in labelled), frozenset({"features"}))
        features = (view.features for view in known)
        scores = strategy.score(Pool(len(left), views, features, batch=protocol.per_round), rng)
        scored = time.perf_counter()
        iou = evaluate(predictor, test, spec.classes)["mean_iou"] or 0.0
        yield Round(len(labelled), iou, trained - start, scored - trained)
        if len(labelled) >= protocol.labels:
            return
        labelled += [left[index] for index in np.argsort(scores)[: protocol.per_round]]


def main() -> None:
    """Run every strategy with every seed and print a line a round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--strategies", default="random,entropy")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            sample = write_synthetic(Path(folder))
        else:
            sample = SampleFiles("", options.data / "raw.tif", options.data / "mitochondria.tif")
        candidates, test = read_halves(sample)
    protocol = Protocol(pool=options.pool, labels=options.labels)
    print("strategy  seed  labels    IoU  train s  score s", flush=True)
    for seed in range(options.seeds):
        for name in options.strategies.split(","):
            spec = TrainingSpec(CLASSES, seed=seed)
            for done in simulate(name, candidates, test, spec, protocol):
                print(
                    f"{name:8}  {seed:4}  {done.labels:6}  {done.iou:5.3f}  {done.train_s:7.1f}"
                    f"  {done.score_s:7.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
