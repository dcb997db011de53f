"""A plain two-dimensional U-Net for greyscale slices.

Model packages carry this file as it is, and other programs run it: it needs torch and nothing else.

References
----------
Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
MICCAI 2015, https://arxiv.org/abs/1505.04597
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

Dropout: TypeAlias = Callable[[Tensor], Tensor]
"""Drops activations, or passes them on as they are."""

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
        inputs = (1, *widths[:-1])
        self.encoder = nn.ModuleList(map(_double_conv, inputs, widths))
        self.upward = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, kernel_size=2, stride=2)
            for shallow, deep in pairwise(widths)
        )
        self.decoder = nn.ModuleList(_double_conv(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], spec.classes, kernel_size=1)
        self.dropout = nn.Dropout(spec.dropout)
        self._first_dropped = max(0, len(widths) - 2)

    @property
    def stride(self) -> int:
        """Pixels that one bottleneck position stands for; image sides are multiples of it."""
        return 1 << len(self.upward)

    @property
    def reach_px(self) -> int:
        """How far from a pixel its logits look at most, as a multiple of `stride`.

        Each convolution of 3 x 3 looks one position of its level further, and a pixel at the edge
        of a block that is pooled at its other end. An image cut out with this much around it, at
        multiples of `stride`, gives the logits of the whole.
        """
        levels = [1 << level for level in range(len(self.encoder))]
        far = 2 * sum(levels) + 2 * sum(levels[:-1]) + self.stride - 1
        return -(-far // self.stride) * self.stride

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
        logits: Tensor = self.head(self.decode(self.encode(self.encode_shared(images))))
        return logits

    def encode_shared(self, images: Tensor) -> list[Tensor]:
        """Return the part of the encoder that dropout leaves alone: the same at every pass.

        Parameters
        ----------
        images : Tensor of float, shape (B, 1, H, W), in [0, 1]

        Returns
        -------
        list of Tensor, shape (B, widths[i], H / 2**i, W / 2**i)
            The levels up to the first that drops activations, that one before it does.
        """
        x = ((images - 0.5) / 0.25).to(self.head.weight.dtype)
        levels: list[Tensor] = []
        for block in self.encoder[: self._first_dropped + 1]:
            x = block(nn.functional.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        return levels

    def encode(self, shared: Sequence[Tensor], dropout: Dropout | None = None) -> list[Tensor]:
        """Return all levels of the encoder, the bottleneck last.

        Parameters
        ----------
        shared
            From `encode_shared`; left unchanged.
        dropout
            In place of the network's own, which drops in training mode alone.
        """
        drop = dropout or self.dropout
        levels = [*shared[:-1], drop(shared[-1])]
        for block in self.encoder[len(shared) :]:
            levels.append(drop(block(nn.functional.max_pool2d(levels[-1], 2))))
        return levels

    def decode(self, levels: Sequence[Tensor], dropout: Dropout | None = None) -> Tensor:
        """Return what the head sees of every pixel.

        Parameters
        ----------
        levels
            From `encode`; left unchanged.
        dropout
            As for `encode`.

        Returns
        -------
        Tensor of float, shape (B, widths[0], H, W)
        """
        drop = dropout or self.dropout
        x = levels[-1]
        for level in reversed(range(len(self.upward))):
            x = self.decoder[level](torch.cat([levels[level], self.upward[level](x)], dim=1))
            if level >= self._first_dropped:
                x = drop(x)
        return x


class ProbabilityUNet(UNet):
    """A `UNet` of the same weights that returns the probability of each class, not its logit."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the class probabilities of every pixel, which sum to 1.

        Parameters
        ----------
        images : Tensor of float, shape (B, 1, H, W), in [0, 1]
            H and W are multiples of `stride`.

        Returns
        -------
        Tensor of float, shape (B, C, H, W)
        """
        return super().forward(images).softmax(dim=1)


def probability_unet(classes: int, widths: Sequence[int], dropout: float) -> ProbabilityUNet:
    """Return a network with random weights; the arguments are the fields of `UNetSpec`."""
    return ProbabilityUNet(UNetSpec(classes, widths, dropout))


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
