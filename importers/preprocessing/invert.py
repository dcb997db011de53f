"""Dark becomes bright, for stacks whose contrast is the other way round."""

from dataclasses import dataclass

import numpy as np

from biosegment.geometry import Roi
from importers.preprocessing.base import Before, Step, Values


@dataclass(frozen=True, slots=True)
class Invert(Step):
    """Mirrors the range of an integer type, floats about 0; once more gives back what it was."""

    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return the mirrored intensities."""
        dtype = before.info.dtype
        ends = np.iinfo(dtype).min + np.iinfo(dtype).max if dtype.kind in "iu" else 0
        return np.subtract(np.float32(ends), values, out=values)
