import threading

import numpy as np
import pytest
import torch

from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.predictor import BATCH_PX, DROPOUT_PASSES, Predictor, class_mask
from ml_backend.strategies.measures import entropy


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


ALL = frozenset({"probs", "mc_probs", "features", "gradients"})


def test_a_view_has_what_was_asked_for(predictor):
    (view,) = predictor.views(images((20, 30)), frozenset({"features"}))
    assert view.features.shape == (8,)
    assert not any(each.size for each in (view.probs, view.mc_probs, view.gradients))
    (view,) = predictor.views(images((20, 30)), ALL)
    assert view.probs.shape == view.mc_probs.shape == (3, 20, 30)
    assert view.mc_entropy.shape == (20, 30)
    assert view.gradients.shape == (3 * 4,)


def test_views_hold_the_probabilities_of_plain_prediction(predictor):
    shapes = [(16, 16), (16, 16), (20, 30)]
    views = predictor.views(images(*shapes), ALL)
    for view, probs in zip(views, predictor.probabilities(images(*shapes)), strict=True):
        np.testing.assert_array_equal(view.probs, probs)


def test_dropout_follows_its_seed_alone(predictor):
    def drawn(seed):
        return next(predictor.views(images((32, 32)), frozenset({"mc_probs"}), seed)).mc_probs

    first = drawn(1)
    torch.rand(3)
    np.testing.assert_array_equal(drawn(1), first)
    assert not np.array_equal(drawn(2), first)


def test_means_over_dropout(predictor):
    """The entropy of the mean is at least the mean of the entropies (Jensen)."""
    (view,) = predictor.views(images((32, 32)), frozenset({"mc_probs"}))
    np.testing.assert_allclose(view.mc_probs.sum(axis=0), 1, atol=1e-4)
    information = entropy(view.mc_probs) - view.mc_entropy
    assert information.min() > -1e-5
    assert information.max() > 0


def test_without_dropout_all_passes_agree():
    predictor = Predictor(UNet(UNetSpec(2, widths=(4, 8), dropout=0.0)), torch.device("cpu"))
    (view,) = predictor.views(images((16, 16)), ALL)
    np.testing.assert_allclose(view.mc_probs, view.probs, atol=1e-4)
    np.testing.assert_allclose(view.mc_entropy, entropy(view.probs), atol=1e-4)


def test_passes_share_what_precedes_dropout():
    network = UNet(UNetSpec(2, widths=(4, 8, 8)))
    calls = []
    for level, block in enumerate(network.encoder):
        block.register_forward_hook(lambda *_, level=level: calls.append(level))
    predictor = Predictor(network, torch.device("cpu"))
    list(predictor.views(images((16, 16)), ALL))
    assert [calls.count(level) for level in range(3)] == [1, 1, DROPOUT_PASSES + 1]


def test_gradients_are_those_of_the_head():
    """Autograd says the same of the mean cross-entropy, to the precision of bfloat16."""
    network = UNet(UNetSpec(3, widths=(4, 8))).eval()
    (image,) = images((16, 16))
    logits = network(torch.from_numpy(image)[None, None])
    torch.nn.functional.cross_entropy(logits, logits.argmax(dim=1)).backward()
    expected = network.head.weight.grad.flatten().numpy()
    (view,) = Predictor(network, torch.device("cpu")).views([image], frozenset({"gradients"}))
    np.testing.assert_allclose(view.gradients, expected, atol=1e-2 * np.abs(expected).max())
