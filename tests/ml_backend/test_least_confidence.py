import numpy as np
import pytest

from ml_backend.strategies import Pool, TileView
from ml_backend.strategies.least_confidence import LeastConfidenceSampling
from ml_backend.strategies.testing import QueryStrategyContract


class TestLeastConfidenceSampling(QueryStrategyContract):
    strategy = LeastConfidenceSampling

    def test_mean_probability_of_the_predicted_class(self):
        """Three classes, two pixels: maxima 0.5 and 0.9; 0.4 and 0.4; 1 and 1."""
        tiles = [
            [[0.5, 0.9], [0.3, 0.1], [0.2, 0.0]],
            [[0.2, 0.3], [0.4, 0.4], [0.4, 0.3]],
            [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]],
        ]
        views = [TileView(np.array(tile, np.float32)[:, None]) for tile in tiles]
        scores = LeastConfidenceSampling().score(Pool(3, views), np.random.default_rng(0))
        assert scores == pytest.approx([0.7, 0.4, 1.0])
