"""Least confidence sampling."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.measures import top_probability


class LeastConfidenceSampling(QueryStrategy):
    """Tiles whose predicted classes are least probable come first.

    Equation (2) of Roels and Saeys (see `measures`): argmin_x sum_j max_c p_jc(x), here with the
    mean over the pixels j for the sum, so that tiles of different sizes compare.
    """

    needs: ClassVar[Needs] = frozenset({"probs"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the mean over the pixels of max_c p_c of every tile, at least 1 / C."""
        means = (top_probability(view.probs).mean(dtype=np.float64) for view in pool.views)
        return np.fromiter(means, np.float64)
