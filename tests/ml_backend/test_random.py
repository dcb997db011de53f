import numpy as np

from ml_backend.strategies.random import RandomSampling
from ml_backend.strategies.testing import QueryStrategyContract


class TestRandomSampling(QueryStrategyContract):
    strategy = RandomSampling

    def test_seeds_differ(self):
        needs_nothing = [self.score(self.pool(50), seed) for seed in (0, 1)]
        assert not np.array_equal(*needs_nothing)

    def test_every_tile_is_as_likely_to_come_first(self):
        firsts = [int(np.argmin(self.score(self.pool(4), seed))) for seed in range(2000)]
        counts = np.bincount(firsts, minlength=4)
        # Four standard deviations of a binomial count.
        assert (abs(counts - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)).all()
