import numpy as np
import pytest
from skimage.measure import block_reduce

from biosegment.errors import SettingsError
from importers.preprocessing.parse import parse_steps
from importers.preprocessing.reader import Preprocessed
from importers.preprocessing.testing import SHAPE, ArrayReader, StepContract, noisy, processed


class TestBin(StepContract):
    steps = ("bin=1x2x2", "bin=1x2x1", "bin=1x1x2")


class TestBinAcrossSlices(StepContract):
    steps = ("bin=2x3x1",)

    def test_takes_volumes_of_few_or_equal_pixels(self):
        with pytest.raises(SettingsError, match=r"cannot bin 1 x 40 x 40 .* by 2 x 3 x 1"):
            processed(noisy((1, 40, 40)), "bin=2x3x1")

    def test_takes_every_type(self):
        assert processed(noisy().astype("int16"), "bin=2x3x1").dtype == "int16"

    def test_changes_something(self):
        assert processed(noisy((5, 7, 9)), "bin=2x3x1").shape == (2, 2, 9)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2), (4, 4, 4), (1, 3, 2)])
def test_a_voxel_is_the_mean_of_its_block(factors):
    whole = tuple(size // factor * factor for size, factor in zip(SHAPE, factors, strict=True))
    volume = noisy().astype("uint16")
    means = block_reduce(volume[tuple(map(slice, whole))], factors, np.mean)
    binned = processed(volume, "bin=" + "x".join(map(str, factors)))
    np.testing.assert_array_equal(binned, np.rint(means))


def test_voxels_grow_by_the_factors():
    reader = Preprocessed(ArrayReader(noisy(), chunks=(1, 64, 64)), parse_steps("bin=2x3x4"))
    assert reader.info.voxel_size.zyx == (80, 15, 16)
    assert reader.info.chunks == (1, 21, 16)
