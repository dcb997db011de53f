"""Query strategies: which tiles the expert is asked to label next."""

from inspect import getdoc

from biosegment.errors import UnknownStrategyError
from biosegment.registry import LazyRegistry
from ml_backend.strategies.base import Needs, Pool, QueryStrategy, TileView

STRATEGIES: LazyRegistry[type[QueryStrategy]] = LazyRegistry(
    {
        "badge": "ml_backend.strategies.badge:BadgeSampling",
        "bald": "ml_backend.strategies.bald:BaldSampling",
        "clue": "ml_backend.strategies.clue:ClueSampling",
        "coreset": "ml_backend.strategies.coreset:CoreSetSampling",
        "entropy": "ml_backend.strategies.entropy:EntropySampling",
        "entropy_coreset": "ml_backend.strategies.entropy_coreset:EntropyCoreSetSampling",
        "kmeans": "ml_backend.strategies.kmeans:KMeansSampling",
        "least_confidence": "ml_backend.strategies.least_confidence:LeastConfidenceSampling",
        "mc_entropy": "ml_backend.strategies.mc_entropy:DropoutEntropySampling",
        "random": "ml_backend.strategies.random:RandomSampling",
        "spaced_entropy": "ml_backend.strategies.spaced_entropy:SpacedEntropySampling",
    }
)


def strategy_named(name: str) -> QueryStrategy:
    """Return the strategy of this name.

    Raises
    ------
    UnknownStrategyError
        When there is none.
    """
    if name not in STRATEGIES:
        raise UnknownStrategyError(name, tuple(STRATEGIES))
    return STRATEGIES[name]()


def descriptions() -> dict[str, str]:
    """Return what each strategy does, in one line, by its name."""
    return {name: (getdoc(kind) or "").partition("\n")[0] for name, kind in STRATEGIES.items()}


__all__ = [
    "STRATEGIES",
    "Needs",
    "Pool",
    "QueryStrategy",
    "TileView",
    "descriptions",
    "strategy_named",
]
