"""What every query strategy must do: subclass the suite in its test and name the strategy."""

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy, TileView
from ml_backend.strategies.measures import entropy


def probabilities(
    classes: int, shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return random class probabilities, float32 (classes, *shape)."""
    raw = rng.random((classes, *shape)) ** 4 + 1e-9
    probs: NDArray[np.float32] = (raw / raw.sum(axis=0)).astype(np.float32)
    return probs


def random_view(
    needs: Needs, classes: int, shape: tuple[int, int], rng: np.random.Generator
) -> TileView:
    """Return random values of what a strategy needs; two passes of dropout, four features."""
    view: dict[str, NDArray[np.float32]] = {}
    if "probs" in needs:
        view["probs"] = probabilities(classes, shape, rng)
    if "mc_probs" in needs:
        passes = [probabilities(classes, shape, rng) for _ in range(2)]
        view["mc_probs"] = np.mean(passes, axis=0, dtype=np.float32)
        view["mc_entropy"] = np.mean(list(map(entropy, passes)), axis=0, dtype=np.float32)
    if "features" in needs:
        view["features"] = rng.random(4, np.float32)
    if "gradients" in needs:
        view["gradients"] = rng.random(4 * classes, np.float32) - np.float32(0.5)
    return TileView(**view)


def random_pool(needs: Needs, size: int, classes: int = 2, seed: int = 0) -> Pool:
    """Return a pool of tiles of several sizes, with the views that a strategy needs."""
    rng = np.random.default_rng(seed)
    shapes = ((8, 8), (16, 8), (5, 7))
    views = (random_view(needs, classes, shapes[i % 3], rng) for i in range(size if needs else 0))
    labelled = np.random.default_rng(seed + 1).random((3, 4), np.float32)
    return Pool(size, views, labelled, batch=5)


class QueryStrategyContract:
    """Subclass as ``Test…`` with `strategy` set."""

    strategy: ClassVar[type[QueryStrategy]]

    def pool(self, size: int, classes: int = 2) -> Pool:
        """Return a random pool with the views that the strategy needs."""
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
        alive: set[int] = set()
        most = 0

        def watched() -> Iterator[TileView]:
            nonlocal most
            for view in self.pool(50).views:
                for pixels in (view.probs, view.mc_probs, view.mc_entropy):
                    if pixels.size:
                        alive.add(id(pixels))
                        weakref.finalize(pixels, alive.discard, id(pixels))
                most = max(most, len(alive))
                yield view
                del view, pixels

        self.score(Pool(50, watched()))
        assert most < 10


class BatchStrategyContract(QueryStrategyContract):
    """The suite of strategies that choose the tiles of a batch together, with a `Selection`."""

    @pytest.mark.parametrize("size", [1, 3, 12])
    def test_scores_are_places_in_the_queue(self, size: int) -> None:
        """Also in a pool smaller than a batch."""
        scores = self.score(self.pool(size))
        np.testing.assert_allclose(np.sort(scores), np.linspace(0, 1, size))

    @pytest.mark.parametrize("seed", range(5))
    def test_no_neighbours_in_a_batch(self, seed: int) -> None:
        """Eight places with three tiles each, a slice apart: a batch of five has one of each."""
        pool = replace(self.pool(24), places=self.triplets())
        batch = np.argsort(self.score(pool, seed))[:5]
        assert len(set(batch // 3)) == 5

    def test_neighbours_where_nothing_else_is_left(self) -> None:
        """A batch is filled all the same."""
        pool = replace(self.pool(6), places=self.triplets()[:6])
        batch = np.argsort(self.score(pool))[:5]
        assert len(set(batch[:2] // 3)) == 2
        assert len(set(batch)) == 5

    def test_distance_can_be_switched_off(self) -> None:
        """Then places play no part."""
        far = self.score(self.pool(24))
        pool = replace(self.pool(24), places=self.triplets(), min_distance_nm=(0, 0, 0))
        np.testing.assert_array_equal(self.score(pool), far)

    def test_tiles_that_are_all_alike(self) -> None:
        """Nothing to tell them apart by is no error."""
        (view,) = self.pool(1).views
        scores = self.score(Pool(8, [view] * 8, [np.zeros(4, np.float32)], batch=5))
        np.testing.assert_allclose(np.sort(scores), np.linspace(0, 1, 8))

    def triplets(self) -> NDArray[np.float64]:
        """Return eight places 10 um apart, each thrice, 50 nm apart along z."""
        return np.array([[0, 50 * z, 0, 1e4 * x] for x in range(8) for z in range(3)], np.float64)
