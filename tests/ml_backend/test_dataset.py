import math

import numpy as np
import pytest
import torch

from biosegment.labels import UNKNOWN
from ml_backend.dataset import EXACT, ZOOM, AugmentedBatches, BatchSpec, LabelledTile, recolour

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


@pytest.mark.parametrize(("rich", "empty", "share"), [(1, 30, 0.5), (10, 10, 0.5), (30, 10, 0.75)])
def test_half_of_the_crops_or_more_come_from_tiles_with_foreground(rich, empty, share):
    tiles = [flat_tile((16, 16), 0.5, 2)] * rich + [flat_tile((16, 16), 0.5, 0)] * empty
    drawn = torch.cat([masks for _, masks in batches(tiles, size=50, count=40)])
    assert (drawn == 2).flatten(1).any(dim=1).float().mean() == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_tiles_alone(label):
    for _, masks in batches([flat_tile((16, 16), 0.5, label)]):
        assert set(masks.unique().tolist()) - {UNKNOWN} == {label}


def test_what_lies_beyond_the_border_is_unknown():
    tile = flat_tile((5, 16), 0.5, 1)
    for images, masks in batches([tile]):
        assert set(masks.unique().tolist()) == {1, UNKNOWN}
        known = (masks == 1).flatten(1).sum(dim=1)
        assert (known <= 5 * 16 * ZOOM**2 + 16).all()
        assert (images.flatten(1).std(dim=1) < 0.1).all()


def test_same_seed_same_batches():
    tiles = [flat_tile((40, 40), 0.5, 1), flat_tile((40, 40), 0.1, 0)]
    for (a, b), (c, d) in zip(batches(tiles, seed=3), batches(tiles, seed=3), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    other = next(iter(batches(tiles, seed=4)))[0]
    assert not torch.equal(next(iter(batches(tiles, seed=3)))[0], other)


@pytest.fixture(scope="module")
def ramps():
    """Crops of a tile that is brighter along y in steps of 0.01, its rows two and two a class."""
    rows = np.arange(80)
    tile = LabelledTile(
        np.broadcast_to(rows / 100, (80, 80)).T.astype(np.float32),
        np.broadcast_to(rows // 2, (80, 80)).T.astype(np.uint8),
    )
    made = AugmentedBatches([tile], BatchSpec(200, 16, 1, 0), CPU)
    return made._crops(torch.zeros(200, dtype=torch.long), torch.Generator().manual_seed(0))


def test_mask_moves_with_its_image(ramps):
    images, masks = ramps
    known = masks != UNKNOWN
    assert known.float().mean() > 0.9
    assert ((images * 100 / 2 - masks)[known].abs() <= 1).all()


def test_crops_are_turned_mirrored_and_zoomed(ramps):
    images, _ = ramps
    rise = (images[:, 8, 12] - images[:, 8, 4]) / 8, (images[:, 12, 8] - images[:, 4, 8]) / 8
    inside = images.flatten(1).amin(dim=1) > 0.05
    inside &= images.flatten(1).amax(dim=1) < 0.74
    x, y = (each[inside] * 100 for each in rise)
    steepness, direction = torch.hypot(x, y), torch.atan2(y, x)
    assert steepness.min() > 1 / ZOOM - 0.02
    assert steepness.min() < 0.85
    assert steepness.max() < ZOOM + 0.02
    assert steepness.max() > 1.18
    assert torch.histc(direction, 8, -math.pi, math.pi).min() > 5
    exact = ((steepness - 1).abs() < 1e-3) & ((2 * direction).sin().abs() < 1e-3)
    assert exact.float().mean() == pytest.approx(EXACT, abs=0.12)
    quarters = (direction[exact] * 2 / math.pi).round().long() % 4
    assert torch.bincount(quarters, minlength=4).min() > 5


def test_mirror_images_occur():
    # Brighter to the right and below: a turn alone never swaps which side the corner is on.
    corner = np.full((64, 64), 0.2, np.float32)
    corner[32:, :] += 0.3
    corner[:, 32:] += 0.1
    tile = LabelledTile(corner, np.zeros((64, 64), np.uint8))
    made = AugmentedBatches([tile], BatchSpec(100, 64, 1, 0), CPU)
    images, _ = made._crops(torch.zeros(100, dtype=torch.long), torch.Generator().manual_seed(0))
    angle = torch.linspace(0, 2 * math.pi, 64)[:-1]
    y, x = (31.5 + 12 * angle.sin()).round().long(), (31.5 + 12 * angle.cos()).round().long()
    ring = images[:, y, x]
    brightest, second = ring > 0.55, (ring > 0.45) & (ring < 0.55)
    bright_at = torch.atan2((brightest * angle.sin()).sum(1), (brightest * angle.cos()).sum(1))
    second_at = torch.atan2((second * angle.sin()).sum(1), (second * angle.cos()).sum(1))
    handed = torch.sin(second_at - bright_at) > 0
    assert 30 < handed.sum() < 70


def test_recolouring_keeps_the_range_and_the_structure():
    rng = np.random.default_rng(0)
    marked = torch.from_numpy(rng.random((64, 16, 16)) < 0.5)
    recoloured = recolour(marked.float() * 0.6 + 0.2, torch.Generator().manual_seed(0))
    assert recoloured.min() >= 0
    assert recoloured.max() <= 1
    for image, bright in zip(recoloured, marked, strict=True):
        assert image[bright].mean() > image[~bright].mean() + 0.15
    assert len({round(image.mean().item(), 4) for image in recoloured}) == 64


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


def test_no_augmentation_leaves_intensities_alone():
    images = torch.rand(50, 8, 8)
    assert torch.equal(recolour(images, torch.Generator().manual_seed(0), strength=0), images)


def test_the_strength_of_augmentation():
    images = torch.full((400, 4, 4), 0.5)
    spread = [
        recolour(images, torch.Generator().manual_seed(0), strength).std().item()
        for strength in (0, 0.5, 1, 2)
    ]
    assert spread == sorted(spread)
    assert spread[0] == 0
    assert spread[3] > 1.5 * spread[2]
