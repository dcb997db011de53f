"""What ranking a pool costs by each strategy, beside plain prediction of the same tiles.

``python -m benchmarks.ranking --tiles 2000`` times the network of the default size on noise. Plain
prediction is timed again before every strategy, so that other load falls on both.
"""

import argparse
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring import seconds
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.predictor import Predictor
from ml_backend.strategies import STRATEGIES, Pool, QueryStrategy, strategy_named

LABELLED = 100


def predict(predictor: Predictor, tiles: list[NDArray[np.float32]]) -> None:
    """Predict all tiles and keep nothing."""
    for _ in predictor.probabilities(tiles):
        pass


def rank(
    strategy: QueryStrategy, predictor: Predictor, tiles: list[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Score all tiles but the first `LABELLED`, which are labelled."""
    rng = np.random.default_rng(0)
    left = tiles[LABELLED:]
    known = predictor.views(tiles[:LABELLED], frozenset({"features"}))
    features = (view.features for view in known)
    return strategy.score(Pool(len(left), predictor.views(left, strategy.needs), features), rng)


def main() -> None:
    """Print a line a strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--tile", type=int, default=128, help="side in pixels")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    options = parser.parse_args()
    torch.manual_seed(0)
    predictor = Predictor(UNet(UNetSpec(2)))
    rng = np.random.default_rng(0)
    tiles = [
        rng.random((options.tile, options.tile), np.float32)
        for _ in range(LABELLED + options.tiles)
    ]
    predict(predictor, tiles)
    print(f"strategy            rank s  predict s  ratio   ({predictor.device})", flush=True)
    for name in options.strategies.split(","):
        plain = seconds(partial(predict, predictor, tiles[LABELLED:]))
        ranked = seconds(partial(rank, strategy_named(name), predictor, tiles))
        print(f"{name:18}  {ranked:6.2f}  {plain:9.2f}  {ranked / plain:5.2f}", flush=True)


if __name__ == "__main__":
    main()
