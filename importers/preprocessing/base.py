"""What every preprocessing step offers."""

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi
from importers.base import VolumeInfo

Values = npt.NDArray[np.float32]
"""Intensities (z, y, x) between two steps: finite, not rounded."""


class Before(Protocol):
    """What a step may ask about the whole volume that it is applied to."""

    @property
    def info(self) -> VolumeInfo:
        """Shape and type; the range of an integer type is that of its intensities."""

    def percentiles(
        self, low: float = 0.1, high: float = 99.9, z: int | None = None
    ) -> tuple[float, float]:
        """Return two percentiles of the volume, or of slice `z`, the second above the first."""

    def noise(self) -> float:
        """Return the standard deviation of the noise."""


class Step(ABC):
    """One step, a frozen dataclass whose fields are its parameters, each with a default.

    Every voxel that comes out depends on a bounded surrounding and on what :class:`Before` tells of
    the whole volume, never on the block that is being worked on: so blocks join without seams.

    Raises
    ------
    ValueError
        If a parameter is out of its range, saying what it must be.
    """

    __slots__ = ()

    def result(self, info: VolumeInfo) -> VolumeInfo:
        """Return what is known of a volume after the step, from what is known before.

        Raises
        ------
        SettingsError
            If the step cannot be applied to this volume.
        """
        return info

    def needs(self, roi: Roi, shape: tuple[int, int, int]) -> Roi:
        """Return the region of a volume of `shape` that `roi` of the result is made of."""
        return roi

    @abstractmethod
    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return the intensities of a region after the step.

        Parameters
        ----------
        values
            Intensities before the step, of the region `held`; may be overwritten.
        held
            What :meth:`needs` said.
        roi
            Region of the result.
        before
            The volume before the step.
        """


def grown(roi: Roi, margin_px: int, shape: tuple[int, int, int]) -> Roi:
    """Return a region with a margin of rows and columns, as far as a volume of `shape` goes."""
    y, x = max(0, roi.y - margin_px), max(0, roi.x - margin_px)
    bottom = min(shape[1], roi.y + roi.height + margin_px)
    right = min(shape[2], roi.x + roi.width + margin_px)
    return Roi(roi.z, y, x, roi.depth, bottom - y, right - x)


def part(held: Roi, roi: Roi) -> tuple[slice, slice, slice]:
    """Return the index of `roi` in an array of the region `held`, which contains it."""
    offsets = (roi.z - held.z, roi.y - held.y, roi.x - held.x)
    z, y, x = (slice(at, at + size) for at, size in zip(offsets, roi.shape, strict=True))
    return (z, y, x)
