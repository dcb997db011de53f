import numpy as np
from skimage.exposure import equalize_adapthist, equalize_hist

from importers.preprocessing.testing import StepContract, noisy, processed


class TestClahe(StepContract):
    steps = ("clahe=32", "clahe:slope=1.5", "clahe=1000")


def test_one_region_without_a_limit_is_a_plain_equalisation():
    image = noisy((1, 200, 220))
    black, white = np.percentile(image, (0.1, 99.9))
    unit = (processed(image, "clahe=1024:slope=64") - black) / (white - black)
    np.testing.assert_allclose(unit, equalize_hist(image, 256), atol=0.01)


def test_regions_are_equalised_as_scikit_image_does():
    # Greys over the whole range, regions that divide the slice: then the definitions agree.
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 256)[None, :] * np.linspace(0.3, 1, 192)[:, None]
    image = (60 + 100 * ramp + rng.normal(0, 15, ramp.shape)).clip(0, 255)
    image[::16, ::16] = rng.choice([0, 255], (12, 16))
    image = image.astype("uint8")[None]
    other = equalize_adapthist(image[0], 64, clip_limit=3 / 64, nbins=64)
    ours = processed(image, "clahe=64:slope=3")[0] / 255
    assert np.abs(ours - other).mean() < 0.025
    assert np.corrcoef(ours.ravel(), other.ravel())[0, 1] > 0.995


def test_faint_regions_gain_contrast_and_none_more_than_the_limit():
    volume = noisy((1, 256, 256))
    volume[:, :, 128:] = 100 + (volume[:, :, 128:] - 100) / 10
    faint = np.std(volume[..., 160:])
    gains = [
        np.std(processed(volume, f"clahe=64:slope={slope}")[..., 160:]) / faint
        for slope in (1, 2, 4, 8)
    ]
    np.testing.assert_array_less(gains, [1.01, 2.02, 4.02, 8.02])
    np.testing.assert_array_less([0.99, 1.9, 3, 4], gains)


def test_an_8_bit_volume_of_few_greys_is_equalised_too():
    volume = (100 + noisy((1, 256, 256)) / 4).astype("uint8")
    assert np.std(processed(volume, "clahe=64")) > 1.2 * np.std(volume)
