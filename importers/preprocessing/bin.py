"""Blocks of voxels averaged into one, for volumes finer than what is looked for."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from biosegment.errors import SettingsError
from biosegment.geometry import Roi, VoxelSize
from importers.base import VolumeInfo, describe_shape
from importers.preprocessing.base import Before, Step, Values


@dataclass(frozen=True, slots=True)
class Bin(Step):
    """Means of blocks. What is left over at the far end of an axis is cut off.

    Voxel (z, y, x) of the result is centred on ``(z, y, x) * factors + (factors - 1) / 2``.
    """

    factors: tuple[int, ...] = (1, 2, 2)
    """Voxels along z, y and x that become one; a single number stands for all three."""

    def __post_init__(self) -> None:
        if len(self.factors) == 1:
            object.__setattr__(self, "factors", self.factors * 3)
        if len(self.factors) != 3 or not all(1 <= factor <= 64 for factor in self.factors):
            raise ValueError("factors must be from 1 to 64, such as 1x2x2 for z, y and x, or 2")

    def result(self, info: VolumeInfo) -> VolumeInfo:
        """Return what is known of the volume, with smaller shape and larger voxels."""
        if any(size < factor for size, factor in zip(info.shape, self.factors, strict=True)):
            reason = f"cannot bin {describe_shape(info.shape)} voxels (z, y, x) by "
            raise SettingsError("--preprocess", reason + describe_shape(self.factors))
        z, y, x = (size // factor for size, factor in zip(info.shape, self.factors, strict=True))
        edges, chunks = info.voxel_size, info.chunks
        if edges:
            scaled = (edge * by for edge, by in zip(edges.zyx, self.factors, strict=True))
            edges = VoxelSize(*scaled)
        if chunks:
            depth, height, width = (
                max(1, c // f) for c, f in zip(chunks, self.factors, strict=True)
            )
            chunks = (depth, height, width)
        return replace(info, shape=(z, y, x), voxel_size=edges, chunks=chunks)

    def needs(self, roi: Roi, shape: tuple[int, int, int]) -> Roi:
        """Return the region that the blocks cover."""
        corner = (roi.z, roi.y, roi.x)
        starts = (at * factor for at, factor in zip(corner, self.factors, strict=True))
        sizes = (size * factor for size, factor in zip(roi.shape, self.factors, strict=True))
        return Roi(*starts, *sizes)

    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return the means."""
        # Added in the same order in every block, unlike a sum of NumPy, and so rounded alike.
        fz, fy, fx = self.factors
        total = np.zeros(roi.shape, np.float32)
        for z, y, x in product(range(fz), range(fy), range(fx)):
            total += values[z::fz, y::fy, x::fx]
        total /= np.float32(fz * fy * fx)
        return total
