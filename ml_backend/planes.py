"""A volume as planes along one axis, which a two-dimensional network predicts part by part.

A part is cut out with as much around it as the network looks at, at multiples of its stride. So
every voxel gets the logits of its whole plane, whatever the parts, and nothing has to be blended.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.geometry import Roi
from biosegment.store import VolumeStore
from ml_backend.model.unet import UNet
from ml_backend.predictor import Predictor

_BOTH: Final = (slice(None), slice(None, None, -1))
_FLIPS: Final = tuple((rows, columns) for rows in _BOTH for columns in _BOTH)


class Planes:
    """Predicts boxes of a volume plane by plane.

    Planes along z are slices (y, x), those along y are (x, z), those along x are (z, y): the axes
    go round, so that a volume whose axes are turned round gives the result turned round.

    Parameters
    ----------
    store
        The volume.
    network
        Tells how far it looks.
    predictor
        Of that network.
    axis
        0, 1 or 2 for planes along z, y or x.
    patch_px
        Rows and columns that are predicted at a time, a multiple of the network's stride. Memory
        goes with its square.
    flips
        Average the probabilities over the four flips of each part.
    """

    def __init__(
        self,
        store: VolumeStore,
        network: UNet,
        predictor: Predictor,
        *,
        axis: int,
        patch_px: int,
        flips: bool,
    ) -> None:
        self.axis = axis
        self._store = store
        self._predictor = predictor
        self._stride, self._reach = network.stride, network.reach_px
        self._patch_px = patch_px
        self._flips = _FLIPS if flips else _FLIPS[:1]
        # Of the planes: their number, rows and columns.
        self._extent = _turned(Roi.whole(store.shape), axis).shape

    def parts(self, box: Roi) -> Iterator[Roi]:
        """Yield the parts of a box, each of one plane, in the order of their prediction."""
        for patch in self._patches(box):
            for plane in range(patch.z, patch.z + patch.depth):
                part = Roi(plane, patch.y, patch.x, 1, patch.height, patch.width)
                yield _turned(part, -self.axis)

    def probabilities(self, boxes: Iterable[Roi]) -> Iterator[NDArray[np.float32]]:
        """Yield the class probabilities of each part of boxes, in order.

        Yields
        ------
        ndarray of float32, shape (C, z, y, x)
            Axis 0 sums to 1.
        """
        patches = [patch for box in boxes for patch in self._patches(box)]
        probs = self._predictor.probabilities(self._images(patches))
        back = [1 + axis for axis in _axes(-self.axis)]
        for patch in patches:
            window = self._window(patch)
            y, x = patch.y - window.y, patch.x - window.x
            for _ in range(patch.depth):
                mean = self._mean_of_flips(probs)
                inner = mean[:, np.newaxis, y : y + patch.height, x : x + patch.width]
                yield inner.transpose(0, *back)

    def _mean_of_flips(self, probs: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the probabilities (C, H, W) of an image, from those of its flips."""
        if len(self._flips) == 1:
            return next(probs)
        back = [
            each[:, rows, columns]
            for each, (rows, columns) in zip(
                islice(probs, len(self._flips)), self._flips, strict=True
            )
        ]
        return np.asarray(np.mean(back, axis=0, dtype=np.float32))

    def _images(self, patches: Iterable[Roi]) -> Iterator[NDArray[np.float32]]:
        """Yield the images of patches and their flips; the next is read while one is predicted."""
        with ThreadPoolExecutor(1) as pool:
            waiting: Future[NDArray[Any]] | None = None
            for patch in patches:
                following = pool.submit(self._read, self._window(patch))
                if waiting is not None:
                    yield from self._flipped(waiting.result())
                waiting = following
            if waiting is not None:
                yield from self._flipped(waiting.result())

    def _flipped(self, planes: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
        """Yield images with sides that the network takes as they are."""
        # Padded before they are flipped: what is pooled together stays together.
        missing = [(0, -length % self._stride) for length in planes.shape[1:]]
        for plane in planes:
            image = np.pad(self._store.to_unit(plane), missing, mode="reflect")
            for rows, columns in self._flips:
                yield np.ascontiguousarray(image[rows, columns])

    def _read(self, window: Roi) -> NDArray[Any]:
        """Return the recorded intensities of a window: planes, rows, columns."""
        return self._store.read(_turned(window, -self.axis)).transpose(_axes(self.axis))

    def _patches(self, box: Roi) -> Iterator[Roi]:
        """Yield what is read at once of a box: planes, rows, columns."""
        whole, size = _turned(box, self.axis), self._patch_px
        for y in range(whole.y, whole.y + whole.height, size):
            for x in range(whole.x, whole.x + whole.width, size):
                height = min(size, whole.y + whole.height - y)
                width = min(size, whole.x + whole.width - x)
                yield Roi(whole.z, y, x, whole.depth, height, width)

    def _window(self, patch: Roi) -> Roi:
        """Return a patch with what the network looks at around it, as far as the volume goes."""
        top, left = max(0, patch.y - self._reach), max(0, patch.x - self._reach)
        bottom = min(self._extent[1], patch.y + patch.height + self._reach)
        right = min(self._extent[2], patch.x + patch.width + self._reach)
        return Roi(patch.z, top, left, patch.depth, bottom - top, right - left)


def _axes(steps: int) -> tuple[int, int, int]:
    """Return the three axes turned round by so many steps."""
    return (steps % 3, (steps + 1) % 3, (steps + 2) % 3)


def _turned(roi: Roi, steps: int) -> Roi:
    """Return a region in a volume whose axes are turned round by so many steps."""
    corner, extent = (roi.z, roi.y, roi.x), roi.shape
    return Roi(*(corner[axis] for axis in _axes(steps)), *(extent[axis] for axis in _axes(steps)))
