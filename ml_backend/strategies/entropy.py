"""Maximum entropy sampling."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.measures import confidence


class EntropySampling(QueryStrategy):
    """Tiles where the network is least decided come first.

    Equation (1) of Roels and Saeys (see `measures`) sums the entropy over the pixels of a tile;
    here it is their mean, so that tiles of different sizes compare. The score is one minus that:
    the confidence of the network.
    """

    needs: ClassVar[Needs] = frozenset({"probs"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return 1 - mean pixel entropy / log C of every tile."""
        return np.fromiter((confidence(view.probs) for view in pool.views), np.float64)
