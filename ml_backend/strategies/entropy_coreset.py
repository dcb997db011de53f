"""Core-set sampling among uncertain tiles."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.embedding import stacked, take_k_center
from ml_backend.strategies.measures import confidence
from ml_backend.strategies.selection import Selection

UNCERTAIN: Final = 4
"""The batch is chosen from this many times as many tiles."""


class EntropyCoreSetSampling(QueryStrategy):
    """Tiles unlike labelled ones come first, among those the network is undecided about.

    Two steps, as in suggestive annotation: the tiles of the highest entropy (equation (1) of Roels
    and Saeys, see `measures`), `UNCERTAIN` times the batch; of these a batch by greedy k-center
    from the labelled tiles, as `coreset`. Behind the batch, the least decided.

    References
    ----------
    L. Yang et al.: Suggestive annotation: a deep active learning framework for biomedical image
    segmentation. MICCAI 2017, https://arxiv.org/abs/1706.04737
    """

    needs: ClassVar[Needs] = frozenset({"probs", "features"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the place of every tile in the queue, in [0, 1]."""
        certainty = np.empty(pool.size)
        rows = []
        for index, view in enumerate(pool.views):
            certainty[index] = confidence(view.probs)
            rows.append(view.features)
        uncertain = np.zeros(pool.size, np.bool_)
        uncertain[np.argsort(certainty, kind="stable")[: UNCERTAIN * pool.batch]] = True
        selection = Selection(pool, preferred=uncertain)
        if rows:
            take_k_center(selection, stacked(rows), pool.labelled)
        return selection.scores(then=certainty)
