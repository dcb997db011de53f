from dataclasses import replace

import numpy as np
import pytest

from ml_backend.strategies import Pool
from ml_backend.strategies.selection import Selection

# Tiles 0 and 1 are neighbours, as are 2 and 3; 4 is alone.
PLACES = np.array([[0, 0, 0, x] for x in (0, 100, 1000, 1100, 5000)], np.float64)
POOL = Pool(5, (), places=PLACES, batch=3)


def test_lowest_cost_first_but_apart():
    selection = Selection(POOL)
    cost = np.array([0.1, 0.2, 0.5, 0.4, 0.6])
    assert [selection.take_lowest(cost) for _ in range(3)] == [0, 3, 4]
    assert selection.full
    np.testing.assert_allclose(selection.scores(then=cost), [0, 0.75, 1, 0.25, 0.5])


def test_neighbours_only_where_nothing_else_is_left():
    selection = Selection(replace(POOL, batch=5))
    order = [selection.take_lowest(np.arange(5.0)) for _ in range(5)]
    assert order == [0, 2, 4, 1, 3]
    assert selection.full


def test_preferred_as_long_as_they_are_apart():
    selection = Selection(POOL, preferred=np.array([False, True, False, False, True]))
    order = [selection.take_lowest(np.arange(5.0)) for _ in range(3)]
    assert order == [1, 4, 2]


def test_unknown_places_are_not_near():
    selection = Selection(replace(POOL, places=None))
    assert [selection.take_lowest(np.arange(5.0)) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("size", [0, 1])
def test_tiny_pools(size):
    selection = Selection(Pool(size, ()))
    while not selection.full:
        selection.take_lowest(np.zeros(size))
    np.testing.assert_array_equal(selection.scores(np.zeros(size)), np.zeros(size))
