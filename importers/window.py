"""The intensities to show as black and as white."""

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_SLICES = 16
_PIXELS_PER_SLICE = 2**18
_PERCENTILES = (0.1, 99.9)
_BAND_PIXELS = 2**26


class Image3D(Protocol):
    """An array, in memory or not, of axes (z, y, x)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent in voxels."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 (NumPy's own indexing)
        """Return a part of it."""


def intensity_window(image: Image3D) -> tuple[float, float]:
    """Return the 0.1 and 99.9 percentiles of a volume, the second above the first.

    They are those of a bounded sample: at most 16 slices, spread evenly, give at most about 2**18
    pixels each, on a grid.

    Parameters
    ----------
    image
        The volume, (z, y, x), of real numbers.
    """
    depth, height, width = image.shape
    step = math.ceil(math.sqrt(height * width / _PIXELS_PER_SLICE))
    sampled = np.unique(np.linspace(0, depth - 1, min(depth, _SLICES), dtype=int))
    rows = max(1, _BAND_PIXELS // (width * step)) * step
    sample = []
    for z in sampled:
        for y in range(0, height, rows):
            # A whole band is decoded faster than the same grid in strides.
            band = np.asarray(image[int(z) : int(z) + 1, y : y + rows])[0]
            grid = band[::step, ::step]
            sample.append(grid[np.isfinite(grid)])
    pixels: npt.NDArray[Any] = np.concatenate(sample)
    if pixels.size == 0:
        return (0.0, 1.0)
    black, white = np.percentile(pixels, _PERCENTILES)
    if white <= black:
        # Nearly all of the image has one value.
        black, white = pixels.min(), pixels.max()
    return (float(black), float(white) if white > black else float(black) + 1)
