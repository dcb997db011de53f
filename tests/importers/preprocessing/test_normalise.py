import numpy as np
import pytest

from importers.preprocessing.testing import StepContract, noisy, processed


class TestNormalise(StepContract):
    steps = ("normalise=volume", "normalise=slice", "normalise:low_percent=5:bits=16")


def stretched(image, low=0.1, high=99.9, top=255):
    black, white = np.percentile(image, (low, high))
    return np.rint(np.clip((image - black) / (white - black), 0, 1) * top)


def test_percentiles_of_the_volume_become_the_ends_of_the_range():
    volume = noisy().astype("uint8")
    np.testing.assert_allclose(processed(volume, "normalise"), stretched(volume), atol=1)


def test_each_slice_can_be_stretched_by_its_own_percentiles():
    # As from a microscope whose brightness drifts.
    drift = np.array([0.5, 0.8, 1, 0.7])[:, None, None]
    volume = (noisy() * drift).astype("uint8")
    wanted = np.stack([stretched(image, 1, 98) for image in volume])
    result = processed(volume, "normalise=slice:low_percent=1:high_percent=98")
    np.testing.assert_allclose(result, wanted, atol=1)


@pytest.mark.parametrize(
    ("dtype", "bits", "becomes"),
    [
        ("uint8", 0, "uint8"),
        ("int16", 0, "uint16"),
        ("float32", 0, "uint16"),
        ("uint16", 8, "uint8"),
    ],
)
def test_the_result_fills_8_or_16_bits(dtype, bits, becomes):
    result = processed(noisy().astype(dtype), f"normalise:bits={bits}")
    assert result.dtype == becomes
    assert (result.min(), result.max()) == (0, np.iinfo(becomes).max)


def test_a_large_slice_is_measured_on_a_sample():
    volume = np.random.default_rng(0).normal(100, 10, (1, 900, 1200)).astype("float32")
    result = processed(volume, "normalise=slice:low_percent=10:high_percent=90")
    np.testing.assert_allclose(result, stretched(volume, 10, 90, 65535), atol=0.01 * 65535)
