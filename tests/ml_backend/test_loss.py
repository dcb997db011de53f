import math

import pytest
import torch

from biosegment.labels import UNKNOWN
from ml_backend.model.lit import SegmentationLoss


def test_unknown_pixels_carry_no_loss():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8)
    masks = torch.randint(0, 3, (2, 8, 8))
    masks[:, :, 4:] = UNKNOWN
    changed = logits.clone()
    changed[..., 4:] = torch.randn(2, 3, 8, 4) * 10
    loss = SegmentationLoss()
    torch.testing.assert_close(loss(logits, masks), loss(changed, masks))


def test_unknown_pixels_carry_no_gradient():
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    masks = torch.full((1, 8, 8), UNKNOWN)
    masks[0, :2] = 1
    SegmentationLoss()(logits, masks).backward()
    assert (logits.grad[..., 2:, :] == 0).all()
    assert (logits.grad[..., :2, :] != 0).all()


def test_nothing_known_is_no_loss_and_no_nan():
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    loss = SegmentationLoss()(logits, torch.full((2, 8, 8), UNKNOWN))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert (logits.grad == 0).all()


def test_by_hand():
    """Even odds on one foreground and one background pixel: log 2, and Dice of 1/2."""
    loss = SegmentationLoss()(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    assert loss.item() == pytest.approx(math.log(2) + 0.5, abs=1e-4)


def test_right_answer_is_near_zero():
    masks = torch.randint(0, 3, (2, 8, 8))
    logits = 30.0 * torch.nn.functional.one_hot(masks, 3).permute(0, 3, 1, 2)
    assert SegmentationLoss()(logits, masks).item() < 1e-3


def test_the_weight_of_dice_by_hand():
    logits, masks = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    for weight in (0, 2):
        loss = SegmentationLoss(weight)(logits, masks).item()
        assert loss == pytest.approx(math.log(2) + weight / 2, abs=1e-4)
