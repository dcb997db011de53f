"""Maximum entropy of the prediction averaged over Monte Carlo dropout."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.measures import confidence


class DropoutEntropySampling(QueryStrategy):
    """Maximum entropy sampling (`entropy`) of the mean over passes with different dropout.

    What Roels and Saeys (see `measures`) call BALD: equation (3) averages the prediction over the
    dropout distribution, and equation (1) is applied to it.
    """

    needs: ClassVar[Needs] = frozenset({"mc_probs"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return 1 - mean entropy of the pixels' mean prediction / log C of every tile."""
        return np.fromiter((confidence(view.mc_probs) for view in pool.views), np.float64)
