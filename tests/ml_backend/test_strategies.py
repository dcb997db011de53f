import typing

import pytest

from ml_backend.strategies import STRATEGIES, QueryStrategy
from ml_backend.strategies.base import Need


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_entry_is_a_strategy_without_settings(name):
    strategy = STRATEGIES[name]
    assert issubclass(strategy, QueryStrategy)
    assert strategy.needs <= set(typing.get_args(Need))
    strategy()


def test_unknown_strategies_are_answered_with_the_known():
    with pytest.raises(KeyError, match="entropy"):
        STRATEGIES["best"]
