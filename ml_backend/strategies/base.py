"""What a query strategy is, and what it sees of the tiles."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from biosegment.spacing import MIN_DISTANCE_NM

Need: TypeAlias = Literal["probs", "mc_probs", "features", "gradients"]
"""Something that a network can say of a tile; `TileView` tells what each is."""
Needs: TypeAlias = frozenset[Need]
"""What a strategy reads of each tile; may be empty."""

BATCH: Final = 20
"""Tiles labelled between two trainings in the paper."""


def _absent() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class TileView:
    """What a network says of one tile: what was asked for; the rest is empty.

    All float32; C classes, H x W pixels, D numbers that depend on the network alone.
    """

    probs: NDArray[np.float32] = field(default_factory=_absent)
    """``probs``: class probabilities (C, H, W)."""
    mc_probs: NDArray[np.float32] = field(default_factory=_absent)
    """``mc_probs``: their mean over passes with Monte Carlo dropout, (C, H, W)."""
    mc_entropy: NDArray[np.float32] = field(default_factory=_absent)
    """``mc_probs`` too: mean over the passes of each pass's entropy / log C, (H, W), in [0, 1]."""
    features: NDArray[np.float32] = field(default_factory=_absent)
    """``features``: the bottleneck's activations, averaged over the tile, (D,)."""
    gradients: NDArray[np.float32] = field(default_factory=_absent)
    """``gradients``: of the cross-entropy with the predicted classes, by the weights of the last
    layer, averaged over the tile, (D,)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The tiles of a project, as one strategy sees them."""

    size: int
    """Number of unlabelled tiles."""
    views: Iterable[TileView]
    """The unlabelled tiles, in order; read once, and never all in memory."""
    labelled: Iterable[NDArray[np.float32]] = ()
    """``features`` of the labelled tiles, each (D,); read at most once."""
    places: NDArray[np.float64] | None = None
    """Where the unlabelled tiles lie (`spacing.places`), None where nothing is known."""
    batch: int = BATCH
    """Number of tiles that will be labelled before the next training; at least 1."""
    min_distance_nm: tuple[float, float, float] = MIN_DISTANCE_NM
    """Tiles of a batch that are nearer in z and in y and in x are too near; 0 switches it off."""


PROBS: Final[Needs] = frozenset({"probs"})
FEATURES: Final[Needs] = frozenset({"features"})


class QueryStrategy(ABC):
    """A rule that says which tiles teach the network most."""

    needs: ClassVar[Needs]

    @abstractmethod
    def score(self, pool: Pool, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the score of every tile; the lowest is labelled first.

        Parameters
        ----------
        pool : Pool
            Its views hold what `needs` names; those of a strategy that needs nothing are not read.
        rng : np.random.Generator
            The only source of chance.

        Returns
        -------
        ndarray of float64, shape (pool.size,), in [0, 1]
        """
