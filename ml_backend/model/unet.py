"""A plain two-dimensional U-Net for greyscale slices.

References
----------
Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
MICCAI 2015, https://arxiv.org/abs/1505.04597
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

NORMALISATION = "intensities in [0, 1]; the network itself computes (x - 0.5) / 0.25"


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """Everything needed to build the network again."""

    classes: int
    """Number of classes, background included."""
    widths: Sequence[int] = (16, 32, 64, 128, 256)
    """Channels of each level, from full resolution to the bottleneck."""
    dropout: float = 0.1
    """Probability of dropping an activation in the two deepest levels."""


class UNet(nn.Module):
    """Class logits of greyscale images whose sides are multiples of ``stride``."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        widths = tuple(spec.widths)
        drop = [spec.dropout if level >= len(widths) - 2 else 0.0 for level in range(len(widths))]
        inputs = (1, *widths[:-1])
        self.encoder = nn.ModuleList(map(_double_conv, inputs, widths, drop))
        self.upward = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            _double_conv(2 * width, width, p) for width, p in zip(widths[:-1], drop, strict=False)
        )
        self.head = nn.Conv2d(widths[0], spec.classes, kernel_size=1)

    @property
    def stride(self) -> int:
        """Pixels that one bottleneck position stands for; image sides are multiples of it."""
        return 1 << len(self.upward)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of every pixel.

        Parameters
        ----------
        images : Tensor of float, shape (B, 1, H, W), in [0, 1]
            H and W are multiples of `stride`.

        Returns
        -------
        Tensor of float, shape (B, C, H, W)
        """
        x = (images - 0.5) / 0.25
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(nn.functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for level in reversed(range(len(self.upward))):
            x = self.decoder[level](torch.cat([skips[level], self.upward[level](x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double_conv(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
