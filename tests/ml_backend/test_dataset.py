import numpy as np
import pytest
import torch

from biosegment.labels import UNKNOWN
from ml_backend.dataset import AugmentedBatches, BatchSpec, LabelledTile, augment

CPU = torch.device("cpu")


def flat_tile(shape, value, label):
    return LabelledTile(np.full(shape, value, np.float32), np.full(shape, label, np.uint8))


def batches(tiles, size=8, crop_px=16, count=4, seed=0):
    return AugmentedBatches(tiles, BatchSpec(size, crop_px, count, seed), CPU)


def test_batches_have_the_promised_form():
    tiles = [flat_tile((16, 40), 0.5, 1), flat_tile((33, 20), 0.2, 0)]
    made = list(batches(tiles))
    assert len(made) == len(batches(tiles)) == 4
    for images, masks in made:
        assert images.shape == (8, 1, 16, 16)
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert masks.shape == (8, 16, 16)
        assert masks.dtype == torch.int64


def test_half_of_each_batch_has_foreground():
    tiles = [flat_tile((16, 16), 0.5, 2)] + [flat_tile((16, 16), 0.5, 0) for _ in range(30)]
    for _, masks in batches(tiles):
        assert (masks == 2).flatten(1).any(dim=1).sum() == 4


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_tiles_alone(label):
    for _, masks in batches([flat_tile((16, 16), 0.5, label)]):
        assert (masks == label).all()


def test_tiles_smaller_than_a_crop_are_padded_with_unknown():
    (_, masks), *_ = batches([flat_tile((5, 16), 0.5, 1)])
    assert set(masks.unique().tolist()) == {1, UNKNOWN}
    assert ((masks == 1).flatten(1).sum(dim=1) == 5 * 16).all()


def test_same_seed_same_batches():
    tiles = [flat_tile((40, 40), 0.5, 1), flat_tile((40, 40), 0.1, 0)]
    for (a, b), (c, d) in zip(batches(tiles, seed=3), batches(tiles, seed=3), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    other = next(iter(batches(tiles, seed=4)))[0]
    assert not torch.equal(next(iter(batches(tiles, seed=3)))[0], other)


def test_mask_moves_with_its_image():
    rng = np.random.default_rng(0)
    masks = torch.from_numpy((rng.random((64, 16, 16)) < 0.5).astype(np.uint8))
    images = masks.float() * 0.6 + 0.2
    turned_images, turned_masks = augment(images, masks, torch.Generator().manual_seed(0))
    for image, mask in zip(turned_images[:, 0], turned_masks, strict=True):
        assert image[mask == 1].mean() > image[mask == 0].mean() + 0.15
    assert len({tuple(mask.flatten().tolist()) for mask in turned_masks}) == 64


def test_all_eight_symmetries_occur():
    mask = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4).repeat(200, 1, 1)
    _, turned = augment(torch.rand(200, 4, 4), mask, torch.Generator().manual_seed(0))
    assert len({tuple(each.flatten().tolist()) for each in turned}) == 8


def test_tile_sides_must_agree():
    with pytest.raises(ValueError, match=r"both are \(H, W\)"):
        LabelledTile(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.uint8))


def test_known_and_foreground():
    unknown = flat_tile((4, 4), 0.5, UNKNOWN)
    assert not unknown.has_known
    assert not unknown.has_foreground
    background = flat_tile((4, 4), 0.5, 0)
    assert background.has_known
    assert not background.has_foreground
    assert flat_tile((4, 4), 0.5, 3).has_foreground


def test_no_augmentation_is_flips_and_turns_only():
    images = torch.rand(50, 8, 8)
    masks = torch.zeros(50, 8, 8, dtype=torch.uint8)
    turned, _ = augment(images, masks, torch.Generator().manual_seed(0), strength=0)
    before, after = (batch.flatten(1).sort().values for batch in (images, turned))
    torch.testing.assert_close(before, after)
    assert not torch.equal(images, turned[:, 0])


def test_the_strength_of_augmentation():
    images, masks = torch.full((400, 4, 4), 0.5), torch.zeros(400, 4, 4, dtype=torch.uint8)
    spread = [
        augment(images, masks, torch.Generator().manual_seed(0), strength)[0].std().item()
        for strength in (0, 0.5, 1, 2)
    ]
    assert spread == sorted(spread)
    assert spread[0] == 0
    assert spread[3] > 1.5 * spread[2]
