import math

import numpy as np
import pytest

from biosegment.errors import RegionError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.preprocessing.parse import parse_steps
from importers.preprocessing.reader import Preprocessed
from importers.preprocessing.testing import SHAPE, ArrayReader, noisy

ALL = "denoise=tv,normalise=slice,clahe=32,bin=1x2x2,invert"


def test_steps_follow_one_another(monkeypatch):
    volume = noisy().astype("uint16")
    wanted = Preprocessed(ArrayReader(volume), parse_steps(ALL))
    whole = wanted.read(Roi.whole(wanted.info.shape))
    assert (whole.shape, whole.dtype) == ((4, 70, 85), "uint16")
    monkeypatch.setattr("importers.preprocessing.reader._CELL_PX", 33)
    monkeypatch.setattr("importers.preprocessing.reader._HELD_BYTES", 20_000)
    again = Preprocessed(ArrayReader(volume), parse_steps(ALL))
    roi = Roi(1, 5, 7, 3, 60, 70)
    np.testing.assert_array_equal(again.read(roi), whole[roi.slices])


def test_order_counts():
    first, second = (
        Preprocessed(ArrayReader(noisy()), parse_steps(steps)).read(Roi.whole(SHAPE))
        for steps in ("clahe,normalise=slice", "normalise=slice,clahe")
    )
    assert (first != second).mean() > 0.5


@pytest.mark.parametrize("steps", ["invert", "bin=2x4x4", "denoise=nlm,clahe=32"])
def test_no_more_of_a_chunked_slice_is_read_at_once_than_fits(monkeypatch, steps):
    monkeypatch.setattr("importers.preprocessing.reader._CELL_PX", 16)
    monkeypatch.setattr("importers.preprocessing.reader._HELD_BYTES", 2**15)
    source = ArrayReader(np.zeros((2, 1500, 64), "uint8"), chunks=(1, 16, 16))
    reader = Preprocessed(source, parse_steps(steps))
    reader.read(Roi.whole(reader.info.shape))
    # A band may be one cell high and its halo at least.
    assert max(math.prod(region.shape) for region in source.regions) < 1.5 * 2**15


def test_slices_that_cannot_be_decoded_in_parts_are_decoded_once(monkeypatch):
    monkeypatch.setattr("importers.preprocessing.reader._CELL_PX", 32)
    monkeypatch.setattr("importers.preprocessing.reader._HELD_BYTES", 1000)
    source = ArrayReader(noisy(), chunks=None)
    reader = Preprocessed(source, parse_steps("normalise=slice,denoise=nlm:strength=2"))
    reader.read(Roi(0, 0, 0, 1, *SHAPE[1:]))
    del source.regions[:]
    for z in range(1, 4):
        reader.read(Roi(z, 0, 0, 1, *SHAPE[1:]))
    assert source.regions == [Roi.slice_of(SHAPE, z) for z in range(1, 4)]


def test_a_voxel_size_that_is_told_is_that_of_the_file():
    reader = Preprocessed(ArrayReader(noisy()), parse_steps("bin=2"), VoxelSize(10, 4, 4))
    assert reader.info.voxel_size == VoxelSize(20, 8, 8)


def test_a_region_beyond_the_volume_is_refused():
    with pytest.raises(RegionError):
        Preprocessed(ArrayReader(noisy()), parse_steps("bin=2")).read(Roi(0, 0, 80, 1, 1, 10))


def test_damage_in_the_file_is_told():
    class Damaged(ArrayReader):
        def read(self, roi):
            raise UnreadableFileError("a.tif", "slice 3 is damaged")

    with pytest.raises(UnreadableFileError, match="slice 3"):
        Preprocessed(Damaged(noisy()), parse_steps("invert")).read(Roi.whole(SHAPE))
