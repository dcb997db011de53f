"""A volume after each of its preprocessing steps, computed region by region."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from threading import RLock
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi
from importers.base import VolumeInfo, VolumeReader
from importers.preprocessing.base import Step, Values, part

_SLICES: Final = 16
_PATCHES: Final = 8
_PATCH_PX: Final = 64
_MEDIAN_OF_NORMAL: Final = 0.6745
"""Of the absolute values of a normal distribution, in standard deviations."""
_EXACT_TYPES: Final = (np.uint8, np.int8, np.uint16, np.int16)


class Stage(ABC):
    """A volume between two steps; several threads may read it."""

    def __init__(self, info: VolumeInfo) -> None:
        self.info = info
        """Shape, voxel size and type of the volume here."""
        # What one thread measures, the others wait for.
        self._measuring = RLock()
        self._percentiles = lru_cache(maxsize=64)(self._measure_percentiles)
        self._noise = lru_cache(maxsize=1)(self._measure_noise)

    @abstractmethod
    def read(self, roi: Roi) -> Values:
        """Return the intensities of a region, which the caller may overwrite."""

    @abstractmethod
    def origin(self, roi: Roi) -> Roi:
        """Return the region of the recorded volume that a region here is made of."""

    def percentiles(
        self, low: float = 0.1, high: float = 99.9, z: int | None = None
    ) -> tuple[float, float]:
        """Return two percentiles of the volume, or of slice `z`, the second above the first.

        They are those of a bounded sample, which costs little whatever steps come before: of at
        most 16 slices, spread evenly, at most 8 x 8 patches of 64 x 64 pixels.
        """
        with self._measuring:
            return self._percentiles(low, high, z)

    def noise(self) -> float:
        """Return the standard deviation of the noise, measured on the same sample.

        Second differences along both axes leave little of an image but its noise, six times as
        large: J. Immerkaer, "Fast Noise Variance Estimation" (1996). Their median is taken, which
        edges move less than the mean there. Where they are 0, as in empty margins, nothing counts.
        """
        with self._measuring:
            return self._noise()

    def _measure_percentiles(self, low: float, high: float, z: int | None) -> tuple[float, float]:
        sample = np.concatenate([patch.ravel() for patch in self._patches(z)])
        black, white = np.percentile(sample, (low, high))
        if white <= black:
            # Nearly all of it has one value.
            black, white = sample.min(), sample.max()
        return (float(black), float(white) if white > black else float(black) + 1)

    def _measure_noise(self) -> float:
        along = (np.diff(patch, 2, axis=0) for patch in self._patches())
        both = np.concatenate([np.abs(np.diff(rows, 2, axis=1)).ravel() for rows in along])
        both = both[both > 0]
        return float(np.median(both)) / _MEDIAN_OF_NORMAL / 6 if both.size else 0.0

    def _patches(self, z: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the sample of the volume, or of one slice."""
        depth, height, width = self.info.shape
        spread = np.unique(np.linspace(0, depth - 1, min(depth, _SLICES), dtype=int))
        for slice_z in spread if z is None else (z,):
            for (y, rows), (x, columns) in product(_sampled(height), _sampled(width)):
                yield self.read(Roi(int(slice_z), y, x, 1, rows, columns))[0]


class Recorded(Stage):
    """The volume as it was recorded, of which a region at a time is kept in memory.

    Integers of up to 16 bits keep their type, all others become float32; what is not a finite
    number becomes 0.
    """

    def __init__(self, reader: VolumeReader, info: VolumeInfo) -> None:
        dtype = info.dtype if info.dtype in _EXACT_TYPES else np.dtype(np.float32)
        super().__init__(replace(info, dtype=dtype))
        self._reader = reader
        self._reading = RLock()
        self._held = Roi(0, 0, 0, 1, 1, 1)
        self._voxels: npt.NDArray[Any] | None = None

    def hold(self, roi: Roi) -> None:
        """Keep a region in memory; whole slices where no less can be decoded."""
        if self.info.chunks is None:
            roi = Roi(roi.z, 0, 0, roi.depth, *self.info.shape[1:])
        with self._reading:
            if self._voxels is None or roi != self._held:
                # Room first: the old region and the new one need not be there at once.
                self._voxels = None
                self._voxels = self._reader.read(roi)
                self._held = roi

    def read(self, roi: Roi) -> Values:
        """Return recorded intensities, from the file if they are not in memory."""
        with self._reading:
            if self.info.chunks is None and not self._holds(roi):
                self.hold(roi)
            if self._voxels is not None and self._holds(roi):
                voxels = self._voxels[part(self._held, roi)]
            else:
                voxels = self._reader.read(roi)
            # Beyond the range of float32 there is infinity.
            with np.errstate(over="ignore"):
                values = voxels.astype(np.float32)
        return np.nan_to_num(values, copy=False, posinf=0, neginf=0)

    def _holds(self, roi: Roi) -> bool:
        return self._voxels is not None and all(
            outer.start <= inner.start and inner.stop <= outer.stop
            for outer, inner in zip(self._held.slices, roi.slices, strict=True)
        )

    def origin(self, roi: Roi) -> Roi:
        """Return `roi`."""
        return roi


class Processed(Stage):
    """A volume after a step."""

    def __init__(self, before: Stage, step: Step) -> None:
        super().__init__(step.result(before.info))
        self._before = before
        self._step = step

    def read(self, roi: Roi) -> Values:
        """Return intensities after the step."""
        needed = self._step.needs(roi, self._before.info.shape)
        return self._step.apply(self._before.read(needed), needed, roi, self._before)

    def origin(self, roi: Roi) -> Roi:
        """Return the region that this step and those before it need."""
        return self._before.origin(self._step.needs(roi, self._before.info.shape))


def _sampled(size: int) -> list[tuple[int, int]]:
    """Return where patches begin along an axis and how long they are: one, if it is short."""
    if size <= _PATCHES * _PATCH_PX:
        return [(0, size)]
    starts = np.linspace(0, size - _PATCH_PX, _PATCHES, dtype=int)
    return [(int(start), _PATCH_PX) for start in starts]
