"""What every query strategy must do: subclass the suite in its test and name the strategy."""

import weakref
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy


def probabilities(
    classes: int, shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return random class probabilities, float32 (classes, *shape)."""
    raw = rng.random((classes, *shape)) ** 4 + 1e-9
    probs: NDArray[np.float32] = (raw / raw.sum(axis=0)).astype(np.float32)
    return probs


def random_pool(needs: Needs, size: int, classes: int = 2, seed: int = 0) -> Pool:
    """Return a pool of tiles of several sizes, with the inputs that a strategy needs."""
    rng = np.random.default_rng(seed)
    shapes = ((8, 8), (16, 8), (5, 7))
    if needs == "nothing":
        return Pool(size, ())
    return Pool(size, (probabilities(classes, shapes[index % 3], rng) for index in range(size)))


class QueryStrategyContract:
    """Subclass as ``Test…`` with `strategy` set."""

    strategy: ClassVar[type[QueryStrategy]]

    def pool(self, size: int, classes: int = 2) -> Pool:
        """Return a random pool with the inputs that the strategy needs."""
        return random_pool(self.strategy.needs, size, classes)

    def score(self, pool: Pool, seed: int = 0) -> NDArray[np.float64]:
        """Score a pool by a fresh strategy."""
        return self.strategy().score(pool, np.random.default_rng(seed))

    @pytest.mark.parametrize("classes", [2, 3, 5])
    def test_one_score_in_unit_range_a_tile(self, classes: int) -> None:
        """Scores are float64 in [0, 1], one a tile."""
        scores = self.score(self.pool(12, classes))
        assert scores.dtype == np.float64
        assert scores.shape == (12,)
        assert ((scores >= 0) & (scores <= 1)).all()

    def test_no_tiles(self) -> None:
        """A used-up pool has no scores."""
        assert self.score(self.pool(0)).shape == (0,)

    def test_deterministic_under_a_seed(self) -> None:
        """The same pool and seed give the same scores."""
        first, second = (self.score(self.pool(9), seed=3) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_tiles_are_told_apart(self) -> None:
        """Scores order the pool."""
        assert len(np.unique(self.score(self.pool(20)))) == 20

    def test_pool_is_streamed(self) -> None:
        """Pixels of a tile are let go once it is read."""
        if self.strategy.needs == "nothing":
            return
        alive: set[int] = set()
        most = 0

        def watched() -> Iterator[NDArray[np.float32]]:
            nonlocal most
            for index, tile in enumerate(self.pool(50).inputs):
                alive.add(index)
                weakref.finalize(tile, alive.discard, index)
                most = max(most, len(alive))
                yield tile

        self.score(Pool(50, watched()))
        assert most < 10
