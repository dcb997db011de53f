"""Annotated tiles, and the augmented batches that a network is trained on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.labels import UNKNOWN

BACKGROUND: Final = 0
LEAST_FOREGROUND: Final = 0.5
"""Share of the crops that comes from tiles with foreground, at least."""
EXACT: Final = 0.5
"""Share of the crops that no interpolation blurs: turned by quarters, and not zoomed."""
ZOOM: Final = 1.3
"""Crops show structures up to this many times larger, or smaller, than they are."""


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
    """Strength of `recolour`."""


class AugmentedBatches:
    """Batches of random crops, drawn and augmented on the device that they are trained on.

    On average at least half of a batch comes from tiles with foreground, if there are any, so that
    rare classes are learned; beyond that all tiles are drawn alike. A crop is a square of a tile,
    mirrored, turned and zoomed. Beyond the border of its tile the image goes on in reflection, and
    the mask is UNKNOWN.

    Iterating yields `spec.count` pairs: images float32 (B, 1, S, S) in [0, 1], masks int64
    (B, S, S). Every iteration yields the same batches.
    """

    def __init__(
        self, tiles: Sequence[LabelledTile], spec: BatchSpec, device: torch.device
    ) -> None:
        self.spec = spec
        self.device = device
        # Tiles of any size, one after the other: a batch is cut out of all in one go.
        self._pixels = torch.from_numpy(
            np.concatenate([tile.image.ravel().astype(np.float32, copy=False) for tile in tiles])
        ).to(device)
        self._classes = torch.from_numpy(np.concatenate([tile.mask.ravel() for tile in tiles])).to(
            device
        )
        self._shapes = torch.tensor([tile.mask.shape for tile in tiles], device=device)
        areas = self._shapes.prod(dim=1)
        self._starts = areas.cumsum(0) - areas
        foreground = torch.tensor([tile.has_foreground for tile in tiles], device=device)
        self._weights = torch.ones(len(tiles), device=device)
        if foreground.any():
            others = (~foreground).sum()
            # Sharing what is left, the others have at most the weight of as many tiles with it.
            most = foreground.sum() * (1 - LEAST_FOREGROUND) / LEAST_FOREGROUND
            self._weights[~foreground] = (most / others.clamp(min=1)).clamp(max=1)

    def __len__(self) -> int:
        return self.spec.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator(self.device).manual_seed(self.spec.seed)
        for _ in range(self.spec.count):
            chosen = self._weights.multinomial(
                self.spec.size, replacement=True, generator=generator
            )
            images, masks = self._crops(chosen, generator)
            images = recolour(images, generator, self.spec.augmentation)
            yield images.unsqueeze(1), masks.long()

    def _crops(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a crop of each tile: images float32 and masks uint8, both (B, S, S)."""
        shapes, starts = self._shapes[chosen], self._starts[chosen, None, None]
        points = _points(shapes, self.spec.crop_px, generator)
        last = (shapes - 1)[:, :, None, None].float()
        outside = ((points < -0.5) | (points > last + 0.5)).any(dim=1)
        # Reflected at the border; where a tile is far smaller than a crop, its border goes on.
        points = (last - (last - points.abs()).abs()).clamp(min=0)

        def look_up(values: Tensor, y: Tensor, x: Tensor) -> Tensor:
            return values[starts + y * shapes[:, 1, None, None] + x]

        masks = look_up(self._classes, *points.round().long().unbind(dim=1))
        # The image linearly between its four nearest pixels.
        low = points.floor()
        y, x = (points - low).unbind(dim=1)
        y0, x0 = low.long().unbind(dim=1)
        y1, x1 = torch.minimum(low + 1, last).long().unbind(dim=1)
        images = torch.lerp(
            torch.lerp(look_up(self._pixels, y0, x0), look_up(self._pixels, y0, x1), x),
            torch.lerp(look_up(self._pixels, y1, x0), look_up(self._pixels, y1, x1), x),
            y,
        )
        return images, masks.masked_fill(outside, UNKNOWN)


def _points(shapes: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return where in its tile each pixel of a crop lies: float32 (B, 2, S, S), axis 1 is y, x."""
    device = shapes.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(len(shapes), *shape, generator=generator, device=device)

    # Unturned and as it is, the crop lies within its tile where there is room.
    room = (shapes - side).clamp(min=0)
    centre = (shapes - 1 - room) / 2 + ((room + 1) * uniform(2)).floor()
    quarters, zoom = 4 * uniform(), ZOOM ** (2 * uniform() - 1)
    exact = uniform() < EXACT
    angle = torch.where(exact, quarters.floor(), quarters) * (math.pi / 2)
    zoom = torch.where(exact, 1.0, zoom)
    mirror = torch.where(uniform() < 0.5, 1.0, -1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    turn = torch.stack([cos, -mirror * sin, sin, mirror * cos], dim=1).reshape(-1, 2, 2)
    steps = torch.arange(side, device=device) - (side - 1) / 2
    square = torch.stack(torch.meshgrid(steps, steps, indexing="ij")).flatten(1)
    points = turn @ square + centre[:, :, None]
    return points.reshape(-1, 2, side, side)


def recolour(images: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Return images under random contrast, brightness, gamma and noise.

    Parameters
    ----------
    images : Tensor of float32, shape (B, S, S), in [0, 1]
    generator : torch.Generator
        On the device of the images.
    strength : float
        Multiplies the ranges of all four; at 0 the images stay as they are.

    Returns
    -------
    Tensor of float32, shape (B, S, S), in [0, 1]
    """

    def uniform(low: float, high: float) -> Tensor:
        unit = torch.rand(len(images), 1, 1, generator=generator, device=images.device)
        return low + (high - low) * unit

    contrast, shift = 1 + 0.25 * strength * uniform(-1, 1), 0.1 * strength * uniform(-1, 1)
    images = ((images - 0.5) * contrast + 0.5 + shift).clamp(0, 1)
    images = images ** torch.exp(0.25 * strength * uniform(-1, 1))
    grain = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + 0.05 * strength * uniform(0, 1) * grain).clamp(0, 1)
