import tracemalloc

import numpy as np
import pytest

from importers.window import intensity_window


def test_outliers_do_not_stretch_the_window():
    volume = np.random.default_rng(0).normal(1000, 50, (4, 200, 200))
    volume[1, :3, :3] = 60_000
    black, white = intensity_window(volume)
    assert black == pytest.approx(1000 - 3.1 * 50, abs=15)
    assert white == pytest.approx(1000 + 3.1 * 50, abs=25)


def test_first_and_last_slices_count():
    volume = np.zeros((50, 20, 20), "uint8")
    volume[0], volume[-1] = 10, 200
    assert intensity_window(volume) == (0, 200)


def test_a_constant_volume_has_a_window_of_some_width():
    assert intensity_window(np.full((2, 9, 9), 7, "uint8")) == (7, 8)


def test_a_nearly_constant_volume_is_shown_over_its_range():
    volume = np.zeros((1, 200, 200), "float32")
    volume[0, 0, 0] = 1e-3
    assert intensity_window(volume) == (0, pytest.approx(1e-3))


def test_values_that_are_no_numbers_do_not_count():
    volume = np.linspace(0, 1, 20_000, dtype="float32").reshape(2, 100, 100)
    volume[0, :10] = np.nan
    volume[1, 0] = np.inf
    black, white = intensity_window(volume)
    assert 0 < black < white < 1.01
    assert intensity_window(np.full((1, 3, 3), np.nan)) == (0, 1)


def test_the_sample_of_a_large_volume_is_small():
    volume = np.broadcast_to(np.zeros((3000, 3000), "uint8"), (1000, 3000, 3000))
    tracemalloc.start()
    intensity_window(volume)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20
