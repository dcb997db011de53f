"""Class probabilities and masks from a trained network."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label

from ml_backend.hardware import best_device, has_bfloat16
from ml_backend.model.unet import UNet

BATCH_PX: Final = 2**19
"""Pixels in a batch; on a CPU, larger ones take more memory and are no faster."""


class Predictor:
    """Applies a network to images of any size.

    The network is put into evaluation mode on `device` and belongs to the predictor from then on.
    Nothing changes between calls, so threads may share one predictor.
    """

    def __init__(self, network: UNet, device: torch.device | None = None) -> None:
        self.device = device or best_device()
        # torch declares no memory_format for Module.to.
        network.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network
        self._bfloat16 = has_bfloat16(self.device)

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
        batch: list[NDArray[np.float32]] = []
        for image in images:
            if batch and (
                image.shape != batch[0].shape or (len(batch) + 1) * image.size > BATCH_PX
            ):
                yield from self._batch(batch)
                batch = []
            batch.append(image)
        if batch:
            yield from self._batch(batch)

    def _batch(self, images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        height, width = images[0].shape
        missing = [(0, -length % self._network.stride) for length in (height, width)]
        # numpy's, for torch's reflection cannot pad by more than the image.
        padded = np.pad(np.stack(images, dtype=np.float32), [(0, 0), *missing], mode="reflect")
        tensor = torch.from_numpy(padded).unsqueeze(1).to(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16),
        ):
            logits = self._network(tensor.contiguous(memory_format=torch.channels_last))
            probs = logits[..., :height, :width].float().softmax(dim=1)
            result: NDArray[np.float32] = probs.contiguous().cpu().numpy()
        return result


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
