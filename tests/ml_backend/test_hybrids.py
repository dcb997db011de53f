"""Strategies that weigh uncertainty against diversity."""

import numpy as np

from ml_backend.strategies import Pool, TileView
from ml_backend.strategies.badge import BadgeSampling
from ml_backend.strategies.clue import ClueSampling
from ml_backend.strategies.entropy_coreset import UNCERTAIN, EntropyCoreSetSampling
from ml_backend.strategies.spaced_entropy import SpacedEntropySampling
from ml_backend.strategies.testing import BatchStrategyContract


def view(foreground, features=()):
    """Return a view of one pixel."""
    probs = np.array([1 - foreground, foreground], np.float32).reshape(2, 1, 1)
    return TileView(probs, features=np.array(features, np.float32))


class TestSpacedEntropySampling(BatchStrategyContract):
    strategy = SpacedEntropySampling

    def test_least_decided_of_every_place(self):
        """Tiles 0 and 1 are neighbours; the second place in the batch goes to tile 2."""
        places = np.array([[0, 0, 0, 0], [0, 50, 0, 0], [0, 0, 0, 5000]], np.float64)
        views = [view(0.5), view(0.45), view(0.8)]
        scores = self.score(Pool(3, views, places=places, batch=2))
        np.testing.assert_allclose(scores, [0, 1, 0.5])


class TestEntropyCoreSetSampling(BatchStrategyContract):
    strategy = EntropyCoreSetSampling

    def test_farthest_of_the_undecided(self):
        """The farthest of all is decided, and the batch is one of the others."""
        undecided = [view(0.5, [number]) for number in range(UNCERTAIN)]
        scores = self.score(
            Pool(UNCERTAIN + 1, [view(0.99, [100]), *undecided], [np.zeros(1)], batch=1)
        )
        assert np.argmin(scores) == UNCERTAIN
        assert np.argmax(scores) == 0


class TestClueSampling(BatchStrategyContract):
    strategy = ClueSampling

    def test_clusters_lie_where_the_network_is_undecided(self):
        """Unweighted, the centroid of one cluster would be at 3, tile 2; by weight it is at 10."""
        views = [view(1, [0]), view(1, [0]), view(1, [2]), view(0.5, [10])]
        assert np.argmin(self.score(Pool(4, views, batch=1))) == 3

    def test_kinds_without_doubt_wait(self):
        """Decided tiles weigh nothing, so both clusters are among the undecided."""
        views = [view(1, [100]), view(0.5, [0]), view(0.5, [1]), view(0.5, [9])]
        for seed in range(5):
            batch = np.argsort(self.score(Pool(4, views, batch=2), seed))[:2]
            assert 3 in batch
            assert 0 not in batch


class TestBadgeSampling(BatchStrategyContract):
    strategy = BadgeSampling

    def test_longest_gradient_then_another_direction(self):
        """Equal gradients have no distance, and so no chance to be drawn together."""
        gradients = [(3, 0), (3, 0), (0, 2), (0, 2), (3, 0)]
        views = [TileView(gradients=np.array(each, np.float32)) for each in gradients]
        for seed in range(5):
            order = np.argsort(self.score(Pool(5, views, batch=2), seed)).tolist()
            assert order[0] == 0
            assert order[1] in {2, 3}
            assert order[2:4] == [1, 4]
