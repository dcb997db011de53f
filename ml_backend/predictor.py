"""Class probabilities and masks from a trained network."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label
from torch import Tensor

from ml_backend.hardware import best_device, has_bfloat16
from ml_backend.model.folded import folded
from ml_backend.model.unet import UNet
from ml_backend.strategies.base import Needs, TileView

BATCH_PX: Final = 2**19
"""Pixels in a batch; on a CPU, larger ones take more memory and are no faster."""
DROPOUT_PASSES: Final = 25
"""Passes with different dropout that ``mc_probs`` averages: T of the paper."""


class Predictor:
    """Applies a network to images of any size.

    The network is put into evaluation mode, and a copy of it computes on `device`: batch
    normalisation folded into the convolutions, in bfloat16 where the hardware has that. Nothing
    changes between calls, so threads may share one predictor.
    """

    def __init__(self, network: UNet, device: torch.device | None = None) -> None:
        self.device = device or best_device()
        dtype = torch.bfloat16 if has_bfloat16(self.device) else torch.float32
        self._network = folded(network.eval(), dtype).to(self.device)
        # torch declares no memory_format for Module.to.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def probabilities(self, images: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Yield the class probabilities of each image, in order.

        Consecutive images of one shape are computed together; only one batch is in memory.

        Parameters
        ----------
        images : iterable of ndarray of float32, shape (H, W), in [0, 1]

        Yields
        ------
        ndarray of float32, shape (C, H, W)
            Axis 0 sums to 1.
        """
        for view in self.views(images, frozenset({"probs"})):
            yield view.probs

    def views(
        self, images: Iterable[NDArray[np.float32]], needs: Needs, seed: int = 0
    ) -> Iterator[TileView]:
        """Yield what a query strategy looks at of each image, in order.

        Batches are those of `probabilities`. What several needs have in common is computed once;
        of the passes with dropout, all up to the first layer that drops anything.

        Parameters
        ----------
        images : iterable of ndarray of float32, shape (H, W), in [0, 1]
        needs : set
            Attributes of a view that are to be filled in.
        seed : int
            Of the dropout.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        batch: list[NDArray[np.float32]] = []
        for image in images:
            if batch and (
                image.shape != batch[0].shape or (len(batch) + 1) * image.size > BATCH_PX
            ):
                yield from self._batch(batch, needs, generator)
                batch = []
            batch.append(image)
        if batch:
            yield from self._batch(batch, needs, generator)

    def _batch(
        self, images: list[NDArray[np.float32]], needs: Needs, generator: torch.Generator
    ) -> list[TileView]:
        height, width = images[0].shape
        missing = [(0, -length % self._network.stride) for length in (height, width)]
        # numpy's, for torch's reflection cannot pad by more than the image.
        padded = np.pad(np.stack(images, dtype=np.float32), [(0, 0), *missing], mode="reflect")
        tensor = torch.from_numpy(padded).unsqueeze(1).to(self.device)
        with torch.inference_mode():
            shared = self._network.encode_shared(
                tensor.contiguous(memory_format=torch.channels_last)
            )
            found: dict[str, Tensor] = {}
            if needs - {"mc_probs"}:
                found |= self._single_pass(shared, needs, (height, width))
            if "mc_probs" in needs:
                found |= self._dropout_passes(shared, (height, width), generator)
            arrays = {name: value.contiguous().cpu().numpy() for name, value in found.items()}
        return [
            TileView(**{name: array[index] for name, array in arrays.items()})
            for index in range(len(images))
        ]

    def _single_pass(
        self, shared: list[Tensor], needs: Needs, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return what one pass without dropout tells; axis 0 is the image."""
        found = {}
        levels = self._network.encode(shared)
        if "features" in needs:
            found["features"] = levels[-1].float().mean(dim=(2, 3))
        if needs & {"probs", "gradients"}:
            seen = self._network.decode(levels)
            probs = _softmax(self._network.head(seen), size)
            if "probs" in needs:
                found["probs"] = probs
            if "gradients" in needs:
                found["gradients"] = _gradients(probs, seen[..., : size[0], : size[1]])
        return found

    def _dropout_passes(
        self, shared: list[Tensor], size: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return means over passes with dropout; axis 0 is the image."""
        keep = 1 - self._network.spec.dropout

        def drop(x: Tensor) -> Tensor:
            # Not the layer's own: it would have to be switched on, for other threads too, and
            # takes no generator.
            return x * torch.empty_like(x).bernoulli_(keep, generator=generator) / keep

        probs = entropy = torch.zeros((), device=self.device)
        for _ in range(DROPOUT_PASSES):
            levels = self._network.encode(shared, drop)
            drawn = _softmax(self._network.head(self._network.decode(levels, drop)), size)
            probs = probs + drawn / DROPOUT_PASSES
            entropy = entropy + torch.special.entr(drawn).sum(dim=1) / DROPOUT_PASSES
        return {"mc_probs": probs, "mc_entropy": entropy / math.log(self._network.spec.classes)}


def _softmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return logits[..., : size[0], : size[1]].float().softmax(dim=1)


def _gradients(probs: Tensor, seen: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy with the predicted classes, by the head's weights.

    mean_j (p_jc - [argmax p_j = c]) h_jd, flattened to float32 (B, C * D), of probabilities
    (B, C, H, W) and what the head sees, (B, D, H, W).
    """
    # On a CPU, max finds the place in a tenth of the time that argmax takes.
    predicted = torch.zeros_like(probs).scatter_(1, probs.max(dim=1, keepdim=True).indices, 1.0)
    surprise = (probs - predicted).flatten(2) / probs[0, 0].numel()
    # Pixels times channels, as they lie in memory.
    by_class = surprise.to(seen.dtype) @ seen.permute(0, 2, 3, 1).flatten(1, 2)
    return by_class.flatten(1).float()


def class_mask(probs: NDArray[np.float32], min_area_px: int = 0) -> NDArray[np.uint8]:
    """Return the most probable class of every pixel, specks turned into background.

    Parameters
    ----------
    probs : ndarray of float32, shape (C, H, W)
    min_area_px : int
        A connected region of one class with fewer pixels than this is a speck.

    Returns
    -------
    ndarray of uint8, shape (H, W)
    """
    mask: NDArray[np.uint8] = probs.argmax(axis=0).astype(np.uint8)
    if min_area_px > 1:
        regions = label(mask, background=0)
        mask[(np.bincount(regions.ravel()) < min_area_px)[regions]] = 0
    return mask
