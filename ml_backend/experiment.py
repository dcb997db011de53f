"""Simulated active learning: ground truth plays the expert, the service's code learns and ranks.

The protocol is that of Roels and Saeys (2019, https://arxiv.org/abs/1911.05548) and of the
BioSegment paper (2022, section 2.4): the volume is split into halves along y; the expert labels
tiles of one, the other is only measured on.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.geometry import Roi, VoxelSize
from biosegment.spacing import places
from biosegment.tiles import SPREAD, Tile, random_tiles, spread
from ml_backend.dataset import LabelledTile
from ml_backend.metrics import evaluate
from ml_backend.model.unet import UNet
from ml_backend.predictor import Predictor
from ml_backend.strategies import Pool, strategy_named
from ml_backend.strategies.base import FEATURES, Needs, TileView
from ml_backend.training import Parent, TrainingSpec, train

FULL: Final = "full"
"""Full supervision: all tiles of the pool, in as many steps as all rounds of a run together."""
CONVERGED: Final = "converged"
"""Full supervision: all tiles of the pool, in as many steps as help."""
CEILINGS: Final = (FULL, CONVERGED)

TEST_WINDOW_PX: Final = 1024
"""Side of the windows that the test half is predicted in, at most."""


@dataclass(frozen=True, slots=True)
class Epochs:
    """Training by passes over the labelled tiles, at the paper's pace."""

    first: int = 500
    """Passes of the first training."""
    first_learning_rate: float = 1e-3
    """Of the first training."""
    later: int = 200
    """Passes of every later training."""
    later_learning_rate: float = 5e-4
    """Of every later training."""
    batch_size: int = 64
    """Crops in a step; the paper does not tell."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is simulated."""

    pool: int = 1000
    """Tiles drawn at random from the training half (n)."""
    initial: int = SPREAD
    """Tiles of the pool that are labelled first, spread over the training half (m)."""
    per_round: int = 20
    """Tiles that the strategy chooses in a round (k)."""
    labels: int = 120
    """Labelled tiles at the end."""
    tile_px: int = 128
    """Side of a tile."""
    epochs: Epochs | None = None
    """How long and fast to train; None for what the recipe says."""
    converged_steps: int = 4000
    """Optimisation steps of converged full supervision."""

    def recipe(self, spec: TrainingSpec, tiles: int, first: bool) -> TrainingSpec:
        """Return the recipe of a training on so many tiles: of the first one, or of a later one."""
        if self.epochs is None:
            return spec
        epochs = self.epochs.first if first else self.epochs.later
        steps = math.ceil(epochs * tiles / self.epochs.batch_size)
        return replace(
            spec,
            first_steps=steps,
            finetune_steps=steps,
            max_growth=1.0,
            batch_size=self.epochs.batch_size,
            learning_rate=(
                self.epochs.first_learning_rate if first else self.epochs.later_learning_rate
            ),
        )

    def total_steps(self, spec: TrainingSpec) -> int:
        """Return the optimisation steps of all rounds of a run, at the recipe's effort 1."""
        later = [*range(self.initial + self.per_round, self.labels, self.per_round)]
        if self.labels > self.initial:
            later.append(self.labels)
        total, before = 0, 0
        for tiles in (min(self.initial, self.labels), *later):
            recipe = replace(self.recipe(spec, tiles, first=not before), effort=1.0)
            total += recipe.steps((tiles - before) * self.tile_px**2, first=not before)
            before = tiles
        return total


PROTOCOLS: Final = {
    "quick": Protocol(),
    # 500 labels are the first training and 24 more: the paper's T = 25.
    "paper": Protocol(pool=2000, labels=500, epochs=Epochs(), converged_steps=30_000),
}
"""``quick`` suits two CPU cores, ``paper`` is that of the paper, for a GPU."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """A labelled volume and its halves."""

    images: NDArray[np.float32]
    """Shape (Z, Y, X), in [0, 1]."""
    masks: NDArray[np.uint8]
    """Shape (Z, Y, X): the class of every voxel."""
    training: Roi
    """Where tiles are drawn from."""
    test: Roi
    """Where quality is measured; never trained on."""
    voxel_size: VoxelSize | None = None
    """Edge lengths of a voxel, None where unknown."""

    def pool(self, protocol: Protocol, seed: int) -> list[Tile]:
        """Return tiles drawn at random from the training half, fewer where it has fewer."""
        size = (protocol.tile_px, protocol.tile_px)
        return random_tiles("experiment", self.training, size, protocol.pool, seed)

    def labelled(self, roi: Roi) -> LabelledTile:
        """Return a region of depth 1 with its labels."""
        return LabelledTile(self.images[roi.slices][0], self.masks[roi.slices][0])

    def test_tiles(self) -> list[LabelledTile]:
        """Return the test half in windows of nearly equal size that hold every voxel once."""
        test = self.test
        return [
            self.labelled(Roi(z, y, x, 1, height, width))
            for z in range(test.z, test.z + test.depth)
            for y, height in _parts(test.y, test.height)
            for x, width in _parts(test.x, test.width)
        ]


def _parts(start: int, length: int) -> list[tuple[int, int]]:
    """Return first position and length of each part of a side."""
    parts = -(-length // TEST_WINDOW_PX)
    edges = [start + length * index // parts for index in range(parts + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation."""

    strategy: str
    """Name of a query strategy, or of a ceiling."""
    seed: int
    """Of the pool, the initial tiles, training and queries: strategies share all of these."""

    def __str__(self) -> str:
        return f"{self.strategy}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Round:
    """What a round brought, and what it took."""

    labels: int
    """Labelled tiles."""
    iou: float
    """Jaccard index over the whole test half, mean over the foreground classes."""
    train_s: float
    """Seconds of training."""
    rank_s: float
    """Seconds of ranking the pool before; 0 in the first round."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a run stands after a round: enough to go on."""

    rounds: tuple[Round, ...]
    """So far."""
    labelled: tuple[int, ...]
    """Indices into the pool, in the order of labelling."""
    network: UNet
    """As it was trained in the last round."""


def is_complete(run: Run, rounds: Sequence[Round], protocol: Protocol) -> bool:
    """Return whether these are all rounds of a run."""
    if not rounds:
        return False
    return run.strategy in CEILINGS or rounds[-1].labels >= protocol.labels


def simulate(
    run: Run,
    truth: GroundTruth,
    protocol: Protocol,
    spec: TrainingSpec,
    state: State | None = None,
) -> Iterator[State]:
    """Yield the state of a run after each of its rounds.

    Parameters
    ----------
    run : Run
    truth : GroundTruth
    protocol : Protocol
    spec : TrainingSpec
        The recipe; its seed is replaced.
    state : State, optional
        Where the run was interrupted: it goes on as if it had not been.

    Raises
    ------
    UnknownStrategyError
        When there is no such strategy.
    """
    pool = [truth.labelled(tile.roi) for tile in truth.pool(protocol, run.seed)]
    test = truth.test_tiles()
    if run.strategy in CEILINGS:
        if state is None:
            spec = _full_recipe(run, protocol, spec)
            yield _learn(range(len(pool)), pool, test, spec, None, 0.0)
        return
    while state is None or not is_complete(run, state.rounds, protocol):
        started = time.perf_counter()
        labelled = _initial(run, truth, protocol) if state is None else state.labelled
        if state is not None:
            count = min(protocol.per_round, protocol.labels - len(labelled))
            labelled = (*labelled, *_query(run, truth, protocol, state, count))
        rank_s = 0.0 if state is None else time.perf_counter() - started
        recipe = protocol.recipe(spec, len(labelled), first=state is None)
        # A seed of its own for every round, as the service has: other crops, other noise.
        recipe = replace(recipe, seed=1000 * run.seed + len(labelled))
        state = _learn(labelled, pool, test, recipe, state, rank_s)
        yield state


def _full_recipe(run: Run, protocol: Protocol, spec: TrainingSpec) -> TrainingSpec:
    converged = run.strategy == CONVERGED
    steps = protocol.converged_steps if converged else protocol.total_steps(spec)
    recipe = protocol.recipe(spec, protocol.pool, first=True)
    return replace(recipe, first_steps=steps, max_growth=1.0, seed=1000 * run.seed)


def _initial(run: Run, truth: GroundTruth, protocol: Protocol) -> tuple[int, ...]:
    """Return the indices of the tiles that the service would serve before the first training."""
    tiles = truth.pool(protocol, run.seed)
    return tuple(spread(tiles, truth.voxel_size, min(protocol.initial, protocol.labels)))


def _query(run: Run, truth: GroundTruth, protocol: Protocol, state: State, count: int) -> list[int]:
    """Return the indices of the tiles that the strategy wants labelled next."""
    strategy = strategy_named(run.strategy)
    tiles = truth.pool(protocol, run.seed)
    left = sorted(set(range(len(tiles))) - set(state.labelled))
    predictor = Predictor(state.network)

    def views(indices: Iterable[int], needs: Needs) -> Iterator[TileView]:
        images = (truth.labelled(tiles[index].roi).image for index in indices)
        return predictor.views(images, needs, len(state.labelled))

    pool = Pool(
        len(left),
        views(left, strategy.needs),
        (view.features for view in views(state.labelled, FEATURES)),
        places((tiles[index] for index in left), lambda _: truth.voxel_size),
        count,
    )
    rng = np.random.default_rng([run.seed, len(state.labelled)])
    scores = strategy.score(pool, rng)
    return [left[index] for index in np.argsort(scores, kind="stable")[:count]]


def _learn(
    labelled: Sequence[int],
    pool: Sequence[LabelledTile],
    test: Sequence[LabelledTile],
    recipe: TrainingSpec,
    state: State | None,
    rank_s: float,
) -> State:
    """Train on the labelled tiles, from the weights of the last round, and measure."""
    started = time.perf_counter()
    parent = None
    if state is not None:
        parent = Parent(state.network, recipe.classes, len(state.labelled))
    model = train([pool[index] for index in labelled], [], recipe, parent)
    train_s = time.perf_counter() - started
    iou = evaluate(Predictor(model.network), test, recipe.classes)["mean_iou"]
    # None where neither side has foreground: nothing was to be found, and nothing was.
    done = Round(len(labelled), 1.0 if iou is None else iou, train_s, rank_s)
    rounds = () if state is None else state.rounds
    return State((*rounds, done), tuple(labelled), model.network)
