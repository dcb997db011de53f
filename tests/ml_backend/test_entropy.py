import numpy as np
import pytest

from ml_backend.strategies import Pool, TileView
from ml_backend.strategies.entropy import EntropySampling
from ml_backend.strategies.testing import QueryStrategyContract, probabilities


class TestEntropySampling(QueryStrategyContract):
    strategy = EntropySampling

    def test_least_decided_tile_comes_first(self):
        foreground = {"sure": 0.99, "open": 0.5, "leaning": 0.8}
        tiles = [
            TileView(np.stack([np.full((4, 4), 1 - p), np.full((4, 4), p)]))
            for p in foreground.values()
        ]
        scores = EntropySampling().score(Pool(3, tiles), np.random.default_rng(0))
        ranked = [list(foreground)[index] for index in np.argsort(scores)]
        assert ranked == ["open", "leaning", "sure"]
        assert scores[1] == pytest.approx(0)

    def test_size_of_a_tile_does_not_matter(self):
        small = TileView(np.full((2, 4, 4), 0.5, np.float32))
        large = TileView(np.full((2, 64, 64), 0.5, np.float32))
        first, second = EntropySampling().score(Pool(2, [small, large]), np.random.default_rng(0))
        assert first == pytest.approx(second)

    def test_chance_plays_no_part(self):
        rng = np.random.default_rng(0)
        tiles = [TileView(probabilities(2, (4, 4), rng)) for _ in range(5)]
        one, other = (
            EntropySampling().score(Pool(5, tiles), np.random.default_rng(seed)) for seed in (0, 1)
        )
        np.testing.assert_array_equal(one, other)
