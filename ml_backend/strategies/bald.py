"""Bayesian active learning by disagreement, with Monte Carlo dropout."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.base import Needs, Pool, QueryStrategy
from ml_backend.strategies.measures import mutual_information


class BaldSampling(QueryStrategy):
    """Tiles where passes with different dropout contradict each other come first.

    The mutual information of prediction and weights, H[mean_t p_t] - mean_t H[p_t] with the weights
    of pass t drawn from the dropout distribution (equation (3) of Roels and Saeys): high where
    every pass is decided, each for something else. `mc_entropy` is what the paper makes of it.

    References
    ----------
    N. Houlsby et al.: Bayesian active learning for classification and preference learning. 2011,
    https://arxiv.org/abs/1112.5745
    Y. Gal, R. Islam, Z. Ghahramani: Deep Bayesian active learning with image data. ICML 2017,
    https://arxiv.org/abs/1703.02910
    """

    needs: ClassVar[Needs] = frozenset({"mc_probs"})

    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return 1 - mean mutual information of the pixels / log C of every tile."""
        information = (
            mutual_information(view.mc_probs, view.mc_entropy).mean() for view in pool.views
        )
        return 1 - np.fromiter(information, np.float64)
