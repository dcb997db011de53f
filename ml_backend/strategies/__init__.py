"""Query strategies: which tiles the expert is asked to label next."""

from biosegment.registry import LazyRegistry
from ml_backend.strategies.base import Pool, QueryStrategy

STRATEGIES: LazyRegistry[type[QueryStrategy]] = LazyRegistry(
    {
        "entropy": "ml_backend.strategies.entropy:EntropySampling",
        "random": "ml_backend.strategies.random:RandomSampling",
    }
)

__all__ = ["STRATEGIES", "Pool", "QueryStrategy"]
