"""Core-set sampling."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.embedding import stacked, take_k_center
from ml_backend.strategies.selection import Selection


class CoreSetSampling(QueryStrategy):
    """Tiles unlike all labelled ones come first, so that every tile has a labelled one near it.

    Greedy k-center on the embedding at the bottleneck, from the labelled tiles: the core-set of
    Roels and Saeys (see `measures`), after Sener and Savarese (see `embedding`). Behind the batch,
    the farthest from labelled and chosen tiles.
    """

    needs: ClassVar[Needs] = frozenset({"features"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        points = stacked(view.features for view in pool.views)
        selection = Selection(pool)
        if not pool.size:
            return selection.scores(np.empty(0))
        return selection.scores(then=-take_k_center(selection, points, pool.labelled))
