"""Intensities stretched so that two percentiles become the ends of an integer type."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from biosegment.geometry import Roi
from importers.base import VolumeInfo
from importers.preprocessing.base import Before, Step, Values


@dataclass(frozen=True, slots=True)
class Normalise(Step):
    """What lies beyond the percentiles becomes the darkest or brightest value."""

    scope: Literal["volume", "slice"] = "volume"
    """Percentiles of all of it, or of each slice alone, which evens out slices."""
    low_percent: float = 0.1
    """Percentile that becomes 0."""
    high_percent: float = 99.9
    """Percentile that becomes the largest value."""
    bits: int = 0
    """8 or 16 of the result; 0: 8 for a volume of 8 bits, 16 for all others."""

    def __post_init__(self) -> None:
        if self.scope not in ("volume", "slice"):
            raise ValueError("scope must be volume or slice")
        if not 0 <= self.low_percent < self.high_percent <= 100:
            raise ValueError("low_percent must be below high_percent, both from 0 to 100")
        if self.bits not in (0, 8, 16):
            raise ValueError("bits must be 8 or 16")

    def result(self, info: VolumeInfo) -> VolumeInfo:
        """Return what is known of the volume, with the type uint8 or uint16."""
        bits = self.bits or (8 if info.dtype.itemsize == 1 else 16)
        return replace(info, dtype=np.dtype(f"uint{bits}"))

    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return intensities from 0 to the largest value of the resulting type."""
        top = np.float32(np.iinfo(self.result(before.info).dtype).max)
        for z, image in enumerate(values, start=roi.z):
            which = z if self.scope == "slice" else None
            black, white = before.percentiles(self.low_percent, self.high_percent, which)
            image -= np.float32(black)
            image *= top / np.float32(white - black)
        return np.clip(values, 0, top, out=values)
