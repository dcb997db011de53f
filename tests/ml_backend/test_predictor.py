import threading

import numpy as np
import pytest
import torch

from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.predictor import BATCH_PX, Predictor, class_mask


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return Predictor(UNet(UNetSpec(3, widths=(4, 8, 8, 8, 8))), torch.device("cpu"))


def images(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (3, 50), (17, 15), (100, 130)])
def test_any_size(predictor, shape):
    (probs,) = predictor.probabilities(images(shape))
    assert probs.shape == (3, *shape)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
    assert probs.min() >= 0


def test_order_is_kept_whatever_the_batches(predictor):
    shapes = [(16, 16), (16, 16), (20, 30), (16, 16), (20, 30), (20, 30)]
    together = list(predictor.probabilities(images(*shapes)))
    for image, probs in zip(images(*shapes), together, strict=True):
        (alone,) = predictor.probabilities([image])
        np.testing.assert_allclose(probs, alone, atol=0.02)


def test_no_images(predictor):
    assert list(predictor.probabilities([])) == []


def test_reads_no_further_than_a_batch(predictor):
    read = []

    def endless():
        while True:
            read.append(1)
            yield np.zeros((256, 256), np.float32)

    next(predictor.probabilities(endless()))
    assert len(read) == BATCH_PX // 256**2 + 1


def test_inference_mode_stays_inside(predictor):
    for _ in predictor.probabilities(images((16, 16))):
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")


def test_shared_by_threads(predictor):
    tiles = images(*[(32, 32)] * 6)
    expected = list(predictor.probabilities(tiles))
    results = {}

    def work(name):
        results[name] = list(predictor.probabilities(tiles))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results.values():
        np.testing.assert_allclose(result, expected, atol=0.02)


def test_specks_become_background():
    mask = np.zeros((10, 10), np.uint8)
    mask[0:3, 0:3] = 1
    mask[5:7, 5:7] = 1
    mask[5:7, 7:10] = 2
    probs = np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1)
    np.testing.assert_array_equal(class_mask(probs, 0), mask)
    cleaned = class_mask(probs, 5)
    assert cleaned.dtype == np.uint8
    assert (cleaned == 1).sum() == 9
    assert (cleaned == 2).sum() == 6
    assert (cleaned[5:7, 5:7] == 0).all()
    assert not class_mask(probs, 100).any()


def test_mask_is_the_most_probable_class():
    probs = np.array([[[0.5, 0.2]], [[0.3, 0.7]], [[0.2, 0.1]]], np.float32)
    np.testing.assert_array_equal(class_mask(probs), [[0, 1]])
