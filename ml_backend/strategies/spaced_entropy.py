"""Maximum entropy sampling that keeps the tiles of a batch apart."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.measures import confidence
from ml_backend.strategies.selection import Selection


class SpacedEntropySampling(QueryStrategy):
    """The least decided tiles come first, but no two of a batch from the same place.

    Equation (1) of Roels and Saeys (see `measures`) under the minimum distance of `spacing`:
    diversity from where tiles lie in the volume, as greedy non-maximum suppression has it.
    """

    needs: ClassVar[Needs] = frozenset({"probs"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        certainty = np.fromiter((confidence(view.probs) for view in pool.views), np.float64)
        selection = Selection(pool)
        while not selection.full:
            selection.take_lowest(certainty)
        return selection.scores(then=certainty)
