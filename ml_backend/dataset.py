"""Annotated tiles, and the augmented batches that a network is trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.labels import UNKNOWN

BACKGROUND = 0


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTile:
    """One annotated image."""

    image: NDArray[np.float32]
    """Shape (H, W), in [0, 1]."""
    mask: NDArray[np.uint8]
    """Shape (H, W): the class of every pixel, or UNKNOWN."""

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.image.shape != self.mask.shape:
            raise ValueError(
                f"Image of shape {self.image.shape} and mask of shape {self.mask.shape}: "
                "both are (H, W)."
            )

    @property
    def has_known(self) -> bool:
        """Whether any pixel is known."""
        return bool((self.mask != UNKNOWN).any())

    @property
    def has_foreground(self) -> bool:
        """Whether any pixel is known to be of a class other than background."""
        return bool(((self.mask != BACKGROUND) & (self.mask != UNKNOWN)).any())


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """How tiles become batches."""

    size: int
    """Crops in a batch."""
    crop_px: int
    """Side of a crop: a multiple of the network's stride."""
    count: int
    """Number of batches."""
    seed: int
    augmentation: float = 1.0
    """Strength of `augment`."""


class AugmentedBatches:
    """Batches of random crops, augmented on the device that they are trained on.

    Half of each batch comes from tiles with foreground when there are tiles of both kinds: rare
    classes are seen in every step. Tiles smaller than a crop are padded: the image by reflection,
    the mask with UNKNOWN.

    Iterating yields `spec.count` pairs: images float32 (B, 1, S, S) in [0, 1], masks int64
    (B, S, S). Every iteration yields the same batches.
    """

    def __init__(
        self, tiles: Sequence[LabelledTile], spec: BatchSpec, device: torch.device
    ) -> None:
        self.spec = spec
        self.device = device
        padded = [_at_least(tile, spec.crop_px) for tile in tiles]
        self._images = [torch.from_numpy(tile.image).to(device) for tile in padded]
        self._masks = [torch.from_numpy(tile.mask).to(device) for tile in padded]
        foreground = np.array([tile.has_foreground for tile in tiles])
        self._with = np.flatnonzero(foreground)
        self._without = np.flatnonzero(~foreground)

    def __len__(self) -> int:
        return self.spec.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(self.spec.seed)
        noise = torch.Generator(self.device).manual_seed(self.spec.seed)
        for _ in range(self.spec.count):
            yield augment(*self._crops(self._choose(rng), rng), noise, self.spec.augmentation)

    def _choose(self, rng: np.random.Generator) -> NDArray[np.intp]:
        if not (len(self._with) and len(self._without)):
            return rng.integers(len(self._images), size=self.spec.size)
        half = self.spec.size // 2
        return np.concatenate(
            [rng.choice(self._with, self.spec.size - half), rng.choice(self._without, half)]
        )

    def _crops(self, chosen: NDArray[np.intp], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        images, masks = [], []
        side = self.spec.crop_px
        for index in chosen:
            height, width = self._images[index].shape
            y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
            window = slice(y, y + side), slice(x, x + side)
            images.append(self._images[index][window])
            masks.append(self._masks[index][window])
        return torch.stack(images), torch.stack(masks)


def augment(
    images: Tensor, masks: Tensor, generator: torch.Generator, strength: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return a batch under random flips, quarter turns, contrast, brightness, gamma and noise.

    Parameters
    ----------
    images : Tensor of float32, shape (B, S, S), in [0, 1]
    masks : Tensor of uint8, shape (B, S, S)
    generator : torch.Generator
        On the device of both.
    strength : float
        Multiplies the ranges of contrast, brightness, gamma and noise; at 0 there are flips and
        turns only.

    Returns
    -------
    images : Tensor of float32, shape (B, 1, S, S), in [0, 1]
    masks : Tensor of int64, shape (B, S, S)
    """

    def uniform(low: float, high: float) -> Tensor:
        unit = torch.rand(len(images), 1, 1, generator=generator, device=images.device)
        return low + (high - low) * unit

    # Two flips and a transposition make all eight symmetries of the square.
    turns: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda batch: batch.flip(-1),
        lambda batch: batch.flip(-2),
        lambda batch: batch.transpose(-1, -2),
    )
    for turn in turns:
        chosen = uniform(0, 1) < 0.5
        images = torch.where(chosen, turn(images), images)
        masks = torch.where(chosen, turn(masks), masks)
    contrast = uniform(1 - 0.25 * strength, 1 + 0.25 * strength)
    images = (images - 0.5) * contrast + 0.5 + uniform(-0.1 * strength, 0.1 * strength)
    images = images.clamp(0, 1) ** torch.exp(uniform(-0.25 * strength, 0.25 * strength))
    grain = torch.randn(images.shape, generator=generator, device=images.device)
    images = (images + uniform(0, 0.05 * strength) * grain).clamp(0, 1)
    return images.unsqueeze(1), masks.long()


def _at_least(tile: LabelledTile, side: int) -> LabelledTile:
    missing = [(0, max(0, side - length)) for length in tile.image.shape]
    return LabelledTile(
        np.ascontiguousarray(np.pad(tile.image, missing, mode="reflect"), dtype=np.float32),
        np.ascontiguousarray(np.pad(tile.mask, missing, constant_values=UNKNOWN)),
    )
