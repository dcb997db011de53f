"""One optimisation step of the segmentation network, for Lightning's trainer."""

import pytorch_lightning as pl
import torch
from monai.losses import DiceLoss
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from biosegment.labels import UNKNOWN


class SegmentationLoss(nn.Module):
    """Cross entropy plus soft Dice over the known pixels of a batch.

    Parameters
    ----------
    dice_weight : float
        Multiplies the Dice term; 0 leaves cross entropy alone.
    """

    def __init__(self, dice_weight: float = 1.0) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        # Over the whole batch: a crop without any pixel of a class has no Dice of its own.
        self.dice = DiceLoss(
            softmax=True, to_onehot_y=True, batch=True, include_background=False,
            ignore_index=UNKNOWN,
        )  # fmt: skip

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of a batch; zero where no pixel is known.

        Parameters
        ----------
        logits : Tensor of float32, shape (B, C, H, W)
        masks : Tensor of int64, shape (B, H, W)
            Class of every pixel, or UNKNOWN.
        """
        # Not reduction="mean": that is 0/0 when every pixel of the batch is unknown.
        entropy = nn.functional.cross_entropy(logits, masks, ignore_index=UNKNOWN, reduction="sum")
        known = (masks != UNKNOWN).sum().clamp(min=1)
        dice: Tensor = self.dice(logits, masks.unsqueeze(1))
        return entropy / known + self.dice_weight * dice


class SegmentationModule(pl.LightningModule):
    """Trains a network by AdamW under a one-cycle schedule of a fixed number of steps."""

    def __init__(
        self, network: nn.Module, learning_rate: float, steps: int, dice_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.steps = steps
        self.loss = SegmentationLoss(dice_weight)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of images (B, 1, H, W) against masks (B, H, W)."""
        images, masks = batch
        loss: Tensor = self.loss(self.network(images).float(), masks)
        self.log("loss", loss, batch_size=len(images))
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule, as Lightning expects them."""
        optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-2, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=self.steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "learning_rate"},
        }
