"""A batch of tiles, chosen one after the other."""

import numpy as np
from numpy.typing import NDArray

from biosegment.spacing import near
from ml_backend.strategies.base import Pool


class Selection:
    """The tiles of a pool that a strategy has chosen so far, for one batch.

    Parameters
    ----------
    pool
        Tells how many tiles to choose, where they lie, and how far apart those of a batch must be.
    preferred : ndarray of bool, shape (pool.size,), optional
        The tiles to choose from, as long as one of them is far enough from those chosen.
    """

    def __init__(self, pool: Pool, preferred: NDArray[np.bool_] | None = None) -> None:
        self._pool = pool
        self._chosen: list[int] = []
        self._free = np.ones(pool.size, np.bool_)
        self._apart = np.ones(pool.size, np.bool_)
        self._preferred = self._apart.copy() if preferred is None else preferred

    @property
    def full(self) -> bool:
        """Whether the batch is complete, or the pool used up."""
        return len(self._chosen) >= min(self._pool.batch, self._pool.size)

    def candidates(self) -> NDArray[np.bool_]:
        """Return the tiles to choose the next one from, bool (pool.size,).

        None of them is too near to a chosen one, unless all that are left are.
        """
        apart = self._free & self._apart
        for mask in (apart & self._preferred, apart):
            if mask.any():
                return mask
        return self._free.copy()

    def take(self, index: int) -> None:
        """Choose a tile."""
        self._chosen.append(index)
        self._free[index] = False
        if self._pool.places is not None:
            self._apart &= ~near(self._pool.places, index, self._pool.min_distance_nm)

    def take_lowest(self, cost: NDArray[np.float64]) -> int:
        """Choose the candidate of the lowest cost, float (pool.size,), and return its index."""
        candidates = np.flatnonzero(self.candidates())
        index = int(candidates[np.argmin(cost[candidates])])
        self.take(index)
        return index

    def scores(self, then: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, as a score.

        Parameters
        ----------
        then : ndarray of float, shape (pool.size,)
            Orders the tiles that were not chosen, behind those that were; the lowest first.

        Returns
        -------
        ndarray of float64, shape (pool.size,), evenly spaced in [0, 1]
        """
        others = [index for index in np.argsort(then, kind="stable") if self._free[index]]
        scores = np.empty(self._pool.size)
        scores[np.array([*self._chosen, *others], np.intp)] = np.linspace(0, 1, self._pool.size)
        return scores
