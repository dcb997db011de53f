"""K-means sampling."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.embedding import kmeans, stacked, take_nearest
from ml_backend.strategies.selection import Selection


class KMeansSampling(QueryStrategy):
    """One tile of every kind comes first: the nearest to each centroid of the pool.

    The k-means sampling of Roels and Saeys (see `measures`): the embedding z = g(x) of the
    unlabelled tiles at the bottleneck falls into as many clusters as tiles are labelled before the
    next training. The largest cluster comes first; behind the batch, the nearest to any centroid.
    """

    needs: ClassVar[Needs] = frozenset({"features"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        points = stacked(view.features for view in pool.views)
        selection = Selection(pool)
        if not pool.size:
            return selection.scores(np.empty(0))
        centroids = kmeans(points, min(pool.batch, pool.size), rng)
        return selection.scores(then=take_nearest(selection, points, centroids))
