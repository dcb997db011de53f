import numpy as np

from exporters.object_colours import object_colour, object_colours


def test_neighbours_by_number_differ_clearly():
    colours = object_colours(np.arange(70_000)).astype(int)
    for apart in (1, 2):
        assert np.abs(colours[apart:] - colours[:-apart]).max(axis=1).min() > 25


def test_only_background_is_black():
    colours = object_colours(np.arange(1000))
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1:].max(axis=1).min() > 100
    assert object_colour(5) == tuple(colours[5].tolist())
