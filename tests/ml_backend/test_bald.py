import numpy as np
import pytest

from ml_backend.strategies import Pool, TileView
from ml_backend.strategies.bald import BaldSampling
from ml_backend.strategies.mc_entropy import DropoutEntropySampling
from ml_backend.strategies.measures import entropy
from ml_backend.strategies.testing import QueryStrategyContract


def view(*foreground):
    """Return what passes that give a pixel these probabilities of being foreground tell of it."""
    passes = [np.array([1 - p, p], np.float32).reshape(2, 1, 1) for p in foreground]
    mean = np.mean(passes, axis=0, dtype=np.float32)
    return TileView(
        mc_probs=mean, mc_entropy=np.mean([entropy(p) for p in passes], axis=0).astype(np.float32)
    )


# Passes that contradict each other, that are all unsure, that agree, and one between.
VIEWS = (view(0, 1), view(0.5, 0.5), view(1, 1), view(0.25, 0.75))
H_QUARTER = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))


class TestBaldSampling(QueryStrategyContract):
    strategy = BaldSampling

    def test_disagreement_not_doubt(self):
        scores = BaldSampling().score(Pool(4, VIEWS), np.random.default_rng(0))
        assert scores == pytest.approx([0, 1, 1, H_QUARTER], abs=1e-6)


class TestDropoutEntropySampling(QueryStrategyContract):
    strategy = DropoutEntropySampling

    def test_doubt_of_the_mean_whatever_its_cause(self):
        scores = DropoutEntropySampling().score(Pool(4, VIEWS), np.random.default_rng(0))
        assert scores == pytest.approx([0, 0, 1, 0], abs=1e-6)
