"""Which values a label image has, and where, found slice by slice."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from biosegment.geometry import Roi
from exporters.base import Layer

_Box = tuple[int, int, int, int, int, int]
"""First z, y and x, and those behind the last ones."""


def largest_value(layer: Layer) -> int:
    """Return the largest value of a label image."""
    return max(int(plane.max()) for plane in layer.planes())


def bounding_boxes(layer: Layer) -> dict[int, Roi]:
    """Return the smallest box around each value above 0 of a label image, in order of values."""
    boxes: dict[int, _Box] = {}
    for z, plane in enumerate(layer.planes()):
        for value, rows, columns in plane_boxes(plane):
            box = (z, rows.start, columns.start, z + 1, rows.stop, columns.stop)
            if value in boxes:
                pairs = list(zip(boxes[value], box, strict=True))
                z0, y0, x0 = map(min, pairs[:3])
                z1, y1, x1 = map(max, pairs[3:])
                box = (z0, y0, x0, z1, y1, x1)
            boxes[value] = box
    return {
        value: Roi(z0, y0, x0, z1 - z0, y1 - y0, x1 - x0)
        for value, (z0, y0, x0, z1, y1, x1) in sorted(boxes.items())
    }


def plane_boxes(plane: npt.NDArray[Any]) -> Iterator[tuple[int, slice, slice]]:
    """Yield the values above 0 of a slice (y, x), and the rows and columns that each lies in."""
    values = distinct(plane)
    numbered = np.searchsorted(values, plane) + 1
    for value, box in zip(values.tolist(), find_objects(numbered), strict=True):
        if value:
            yield value, *box


def distinct(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values that occur in a slice, in order."""
    flat = plane.ravel()
    # Sorting all pixels would take ten times as long; a value is in many that lie side by side.
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    values: npt.NDArray[Any] = np.unique(flat[np.concatenate([[0], starts])])
    return values
