import numpy as np
import pytest

from importers.synthetic import synthetic_volume

SHAPE = (8, 512, 512)


@pytest.fixture(scope="module")
def volume():
    return synthetic_volume(SHAPE, seed=0)


def best_threshold_iou(raw, mask):
    inside = np.bincount(raw[mask], minlength=256)
    outside = np.bincount(raw[~mask], minlength=256)
    best = 0.0
    for threshold in range(1, 256):
        for side in (slice(None, threshold), slice(threshold, None)):
            hit, false = inside[side].sum(), outside[side].sum()
            best = max(best, hit / (mask.sum() + false))
    return best


def test_shape_and_types(volume):
    raw, labels = volume
    assert raw.shape == labels.shape == SHAPE
    assert raw.dtype == labels.dtype == np.uint8
    assert np.unique(labels).tolist() == [0, 1]


def test_the_same_seed_makes_the_same_volume():
    first, second, other = (synthetic_volume((2, 80, 90), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).mean() > 0.5


def test_mitochondria_are_as_rare_as_in_tissue(volume):
    assert 0.03 < volume[1].mean() < 0.12


def test_grey_values_alone_do_not_tell_mitochondria(volume):
    raw, labels = volume
    assert best_threshold_iou(raw, labels > 0) < 0.25


def test_mitochondria_go_on_from_slice_to_slice(volume):
    masks = volume[1] > 0
    overlap = (masks[:-1] & masks[1:]).sum() / masks[:-1].sum()
    assert overlap > 0.6


def test_slices_differ_in_contrast_and_show_noise(volume):
    raw = volume[0].astype(float)
    assert np.ptp(raw.mean(axis=(1, 2))) > 5
    assert 8 < np.std(np.diff(raw, axis=2)) / np.sqrt(2) < 40


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (3, 17, 200), (2, 201, 33)])
def test_any_shape_will_do_and_has_something_to_find(shape):
    raw, labels = synthetic_volume(shape, seed=1)
    assert raw.shape == labels.shape == shape
    assert labels.any()
