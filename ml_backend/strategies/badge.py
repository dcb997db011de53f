"""Batch active learning by diverse gradient embeddings (BADGE)."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.embedding import draw, squared_distances, stacked
from ml_backend.strategies.selection import Selection


class BadgeSampling(QueryStrategy):
    """Tiles that would change the network much, each in another direction, come first.

    Were its prediction yhat the truth, tile x would change the weights of the last layer along the
    gradient g_c(x) = mean_j (p_jc - [yhat_j = c]) h_j, with h_j what that layer sees of pixel j.
    An undecided tile has a long gradient, tiles of different content differ in direction. The first
    is the longest; the others are drawn with a chance proportional to the squared distance to the
    nearest chosen one (k-means++). Behind the batch, the longest.

    References
    ----------
    J. Ash et al.: Deep batch active learning by diverse, uncertain gradient lower bounds. ICLR
    2020, https://arxiv.org/abs/1906.03671
    """

    needs: ClassVar[Needs] = frozenset({"gradients"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        points = stacked(view.gradients for view in pool.views)
        squared_length = (points**2).sum(axis=1)
        selection = Selection(pool)
        gaps = np.full(pool.size, np.inf)
        while not selection.full:
            if np.isinf(gaps).all():
                index = selection.take_lowest(-squared_length)
            else:
                candidates = np.flatnonzero(selection.candidates())
                index = int(candidates[draw(gaps[candidates], rng)])
                selection.take(index)
            gaps = np.minimum(gaps, squared_distances(points, points[[index]])[:, 0])
        return selection.scores(then=-squared_length)
