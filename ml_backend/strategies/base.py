"""What a query strategy is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Needs: TypeAlias = Literal["nothing", "probs"]
"""What a strategy reads of each tile: nothing, or class probabilities (C, H, W)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The unlabelled tiles of a project, as one strategy sees them."""

    size: int
    """Number of tiles."""
    inputs: Iterable[NDArray[np.float32]]
    """What the strategy needs of each tile, in order; read once, and never all in memory."""


class QueryStrategy(ABC):
    """A rule that says which tiles teach the network most."""

    needs: ClassVar[Needs]

    @abstractmethod
    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the score of every tile; the lowest is labelled first.

        Parameters
        ----------
        pool : Pool
            Its inputs are what `needs` names; those of a strategy that needs nothing are not read.
        rng : np.random.Generator
            The only source of chance.

        Returns
        -------
        ndarray of float64, shape (pool.size,), in [0, 1]
        """
