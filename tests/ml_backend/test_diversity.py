"""Strategies that look at the embedding of tiles alone."""

import numpy as np

from ml_backend.strategies import Pool, TileView
from ml_backend.strategies.coreset import CoreSetSampling
from ml_backend.strategies.kmeans import KMeansSampling
from ml_backend.strategies.testing import BatchStrategyContract

# Three kinds of tiles: 0, 1 and 2 have four, two and one.
KINDS = [(0, 0), (0, 1), (1, 0), (0.4, 0.4), (9, 0), (9, 1), (0, 50)]


def pool(labelled=(), batch=3):
    views = [TileView(features=np.array(kind, np.float32)) for kind in KINDS]
    return Pool(len(KINDS), views, [np.array(each, np.float32) for each in labelled], batch=batch)


class TestKMeansSampling(BatchStrategyContract):
    strategy = KMeansSampling

    def test_nearest_to_each_centroid_largest_cluster_first(self):
        """Centroids (0.35, 0.35), (9, 0.5), (0, 50)."""
        for seed in range(5):
            order = np.argsort(self.score(pool(), seed)).tolist()
            assert order[0] == 3
            assert order[1] in {4, 5}
            assert order[2] == 6


class TestCoreSetSampling(BatchStrategyContract):
    strategy = CoreSetSampling

    def test_every_kind_is_covered(self):
        """From a labelled (0, 0): (0, 50) is 50 away, then (9, 1), then (0, 1) or (1, 0)."""
        order = np.argsort(self.score(pool(labelled=[(0, 0)], batch=2))).tolist()
        assert order[:2] == [6, 5]

    def test_what_is_labelled_is_not_asked_for_again(self):
        order = np.argsort(self.score(pool(labelled=[(0, 50), (9, 0)], batch=1))).tolist()
        assert order[0] == 1
        assert order[-2:] == [4, 6]
