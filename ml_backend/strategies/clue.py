"""Clustering uncertainty-weighted embeddings (CLUE)."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.embedding import kmeans, stacked, take_nearest
from ml_backend.strategies.measures import confidence
from ml_backend.strategies.selection import Selection


class ClueSampling(QueryStrategy):
    """One tile of every kind comes first, where kinds count by how undecided the network is.

    K-means sampling (`kmeans`) in which each tile x weighs as much as its mean pixel entropy H(x):
    the centroids minimise sum_x H(x) min_k ||z(x) - c_k||^2, and so lie among uncertain tiles.
    Behind the batch, the least decided.

    References
    ----------
    V. Prabhu et al.: Active domain adaptation via clustering uncertainty-weighted embeddings.
    ICCV 2021, https://arxiv.org/abs/2010.08666
    """

    needs: ClassVar[Needs] = frozenset({"probs", "features"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        certainty = np.empty(pool.size)
        rows = []
        for index, view in enumerate(pool.views):
            certainty[index] = confidence(view.probs)
            rows.append(view.features)
        selection = Selection(pool)
        if rows:
            points = stacked(rows)
            centroids = kmeans(points, min(pool.batch, pool.size), rng, 1 - certainty)
            take_nearest(selection, points, centroids)
        return selection.scores(then=certainty)
