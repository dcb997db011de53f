"""The intensities to show as black and as white."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_SLICES = 16
_PIXELS_PER_SLICE = 2**18
_PERCENTILES = (0.1, 99.9)


class WindowSample:
    """Percentiles of a volume from a bounded sample, gathered while its slices pass by.

    At most 16 slices, spread evenly, give at most about 2**18 pixels each, on a grid.

    Parameters
    ----------
    shape
        Extent (z, y, x) of the volume in voxels.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        depth, height, width = shape
        self._sampled = set(np.linspace(0, depth - 1, min(depth, _SLICES), dtype=int).tolist())
        self._step = math.ceil(math.sqrt(height * width / _PIXELS_PER_SLICE))
        self._pixels: list[npt.NDArray[Any]] = []

    def see(self, z: int, pixels: npt.NDArray[Any]) -> None:
        """Take slice `z`, shape (y, x), into the sample if it belongs there."""
        if z in self._sampled:
            grid = pixels[:: self._step, :: self._step]
            self._pixels.append(grid[np.isfinite(grid)])

    def window(self) -> tuple[float, float]:
        """Return the 0.1 and 99.9 percentiles, the second above the first."""
        pixels = np.concatenate(self._pixels)
        if pixels.size == 0:
            return (0.0, 1.0)
        black, white = np.percentile(pixels, _PERCENTILES)
        if white <= black:
            # Nearly all of the image has one value.
            black, white = pixels.min(), pixels.max()
        return (float(black), float(white) if white > black else float(black) + 1)
