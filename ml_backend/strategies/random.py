"""Random sampling, the baseline."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy


class RandomSampling(QueryStrategy):
    """Every order of the tiles is equally likely."""

    needs: ClassVar[Needs] = frozenset()

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return independent uniform scores."""
        return rng.random(pool.size)
