import numpy as np
import pytest
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from importers.preprocessing.parse import parse_steps
from importers.preprocessing.stages import Processed, Recorded
from importers.preprocessing.testing import ArrayReader, StepContract, noisy, processed


class TestTotalVariation(StepContract):
    steps = ("denoise=tv:strength=2",)


class TestNonLocalMeans(StepContract):
    steps = ("denoise=nlm",)
    # Sums over patches are rounded differently depending on where a block begins.
    tolerance = 1e-3


def clean_and_noisy(noise):
    y, x = np.indices((1, 300, 300))[1:]
    clean = (100 + 60 * ((x // 40 + y // 50) % 2)).astype("float32")
    return clean, clean + np.random.default_rng(0).normal(0, noise, clean.shape).astype("float32")


@pytest.mark.parametrize("noise", [4, 12])
@pytest.mark.parametrize("method", ["tv", "nlm"])
def test_most_of_the_noise_goes_and_the_edges_stay(method, noise):
    clean, recorded = clean_and_noisy(noise)
    assert np.std(processed(recorded, f"denoise={method}") - clean) < 0.35 * noise


def test_the_noise_is_measured():
    _, recorded = clean_and_noisy(12)
    margin = np.zeros((1, 400, 300), "float32")
    reader = ArrayReader(np.concatenate([recorded, margin], axis=1))
    assert Recorded(reader, reader.info).noise() == pytest.approx(12, rel=0.05)


def test_it_is_what_scikit_image_makes_of_the_whole_slice():
    noise = Recorded(ArrayReader(noisy()), ArrayReader(noisy()).info).noise()
    tv = np.stack(
        [denoise_tv_chambolle(image, 0.6 * noise, eps=0, max_num_iter=50) for image in noisy()]
    )
    np.testing.assert_array_equal(processed(noisy(), "denoise=tv"), tv)
    nlm = np.stack([denoise_nl_means(image, 5, 6, h=0.7 * noise, sigma=noise) for image in noisy()])
    np.testing.assert_array_equal(processed(noisy(), "denoise=nlm"), nlm)


def test_strength_counts():
    weak, strong = (processed(noisy(), f"denoise=tv:strength={by}").std() for by in (0.5, 3))
    assert strong < weak


def test_steps_before_change_the_noise():
    reader = ArrayReader(noisy())
    binned = Processed(Recorded(reader, reader.info), *parse_steps("bin=4x1x1"))
    assert binned.noise() == pytest.approx(Recorded(reader, reader.info).noise() / 2, rel=0.1)
