import numpy as np
import pytest

from importers.preprocessing.testing import StepContract, noisy, processed


class TestInvert(StepContract):
    steps = ("invert",)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_integers_mirror_their_whole_range(dtype):
    ends = np.iinfo(dtype)
    volume = np.linspace(ends.min, ends.max, 600).astype(dtype).reshape(2, 20, 15)
    np.testing.assert_array_equal(processed(volume, "invert"), np.invert(volume))


def test_floats_mirror_about_0():
    np.testing.assert_array_equal(processed(noisy(), "invert"), -noisy())


def test_twice_is_as_it_was():
    volume = noisy().astype("uint16")
    np.testing.assert_array_equal(processed(volume, "invert,invert"), volume)
