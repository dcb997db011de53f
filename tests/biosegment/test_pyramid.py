import numpy as np
import pytest
import zarr
from skimage.measure import block_reduce

from biosegment.geometry import VoxelSize
from biosegment.pyramid import build, level_factors, level_shape, steps


@pytest.mark.parametrize(
    ("shape", "voxel_size", "factors"),
    [
        ((20, 512, 512), None, [(1, 1, 1)]),
        ((20, 1024, 900), None, [(1, 1, 1), (1, 2, 2)]),
        ((20, 30, 2000), VoxelSize(40, 5, 5), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
        ((500, 2048, 2048), VoxelSize(8, 8, 8), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
        ((500, 4096, 4096), VoxelSize(30, 8, 8), [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8)]),
        ((1, 2048, 2048), VoxelSize(8, 8, 8), [(1, 1, 1), (1, 2, 2), (1, 4, 4)]),
    ],
)
def test_voxels_become_more_alike_along_the_axes(shape, voxel_size, factors):
    assert level_factors(shape, voxel_size) == factors


def pyramid_of(volume, factors, labels):
    levels = [
        zarr.create_array(
            {}, shape=level_shape(volume.shape, each), dtype=volume.dtype, chunks=(1, 8, 8)
        )
        for each in factors
    ]
    levels[0][:] = volume
    for number, z in steps(levels):
        build(levels, number, z, labels=labels)
    return [level[:] for level in levels]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(4, 8, 12), (5, 7, 9)])
@pytest.mark.parametrize("deep", [1, 2])
def test_intensities_are_averaged(dtype, shape, deep):
    volume = np.random.default_rng(0).normal(0, 1e4, shape)
    kind = np.dtype(dtype)
    if kind.kind != "f":
        limits = np.iinfo(kind)
        volume = np.clip(volume, limits.min, limits.max)
    volume = volume.astype(kind)
    _, coarse = pyramid_of(volume, [(1, 1, 1), (deep, 2, 2)], labels=False)
    odd = [(0, size % factor) for size, factor in zip(shape, (deep, 2, 2), strict=True)]
    mean = block_reduce(np.pad(volume, odd, mode="edge").astype(float), (deep, 2, 2), np.mean)
    expected = mean if kind.kind == "f" else np.floor(mean + 0.5)
    np.testing.assert_allclose(coarse, expected, rtol=1e-6, atol=1e-3)


def test_a_mean_of_the_largest_values_is_the_largest_value():
    volume = np.full((2, 4, 4), np.iinfo("uint16").max, "uint16")
    assert (pyramid_of(volume, [(1, 1, 1), (2, 2, 2)], labels=False)[1] == 65535).all()


def test_labels_stay_labels():
    volume = np.random.default_rng(0).choice([0, 7, 300], (5, 7, 9)).astype("uint16")
    levels = pyramid_of(volume, [(1, 1, 1), (2, 2, 2), (4, 4, 4)], labels=True)
    np.testing.assert_array_equal(levels[1], volume[::2, ::2, ::2])
    np.testing.assert_array_equal(levels[2], volume[::4, ::4, ::4])


def test_slices_larger_than_a_band_are_whole(monkeypatch):
    volume = np.random.default_rng(0).integers(0, 255, (2, 70, 30), "uint8")
    expected = pyramid_of(volume, [(1, 1, 1), (1, 2, 2)], labels=False)[1]
    monkeypatch.setattr("biosegment.pyramid._BAND_BYTES", 1)
    banded = pyramid_of(volume, [(1, 1, 1), (1, 2, 2)], labels=False)[1]
    np.testing.assert_array_equal(banded, expected)
