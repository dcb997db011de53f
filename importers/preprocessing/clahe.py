"""Local contrast made even: contrast-limited adaptive histogram equalisation.

The method of K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV
(1994): each region of a slice has its own grey-level map, the cumulative histogram of the region
after clipping, and a pixel is mapped by the four regions around it, weighted by their distance. It
differs in three points, so that a part of a slice gives what the whole slice gives: regions divide
the slice evenly and lie where they lie whatever part is read; the histogram spans the volume's
percentiles, not a block's extremes; and what is clipped is given to all bins alike, at a level that
keeps the limit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi
from importers.preprocessing.base import Before, Step, Values

# Few enough that an 8-bit volume which fills a part of its range leaves no bin empty: the bins
# beside would be clipped for it. Within a bin the map is linear.
_BINS: Final = 64


@dataclass(frozen=True, slots=True)
class Clahe(Step):
    """Equalises the histograms of regions of each slice, within the volume's percentiles."""

    region_px: int = 128
    """Side of a region, to the nearest that divides the slice evenly."""
    slope: float = 3.0
    """How many times contrast may grow; 1 changes nothing."""

    def __post_init__(self) -> None:
        if not 16 <= self.region_px <= 1024:
            raise ValueError("region_px must be from 16 to 1024")
        if not 1 <= self.slope <= _BINS:
            raise ValueError(f"slope must be from 1 to {_BINS}")

    def needs(self, roi: Roi, shape: tuple[int, int, int]) -> Roi:
        """Return the region of all the maps that the pixels are blended of."""
        rows, columns = self._axes(shape)
        y, bottom = rows.covering(roi.y, roi.y + roi.height)
        x, right = columns.covering(roi.x, roi.x + roi.width)
        return Roi(roi.z, y, x, roi.depth, bottom - y, right - x)

    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return the equalised intensities."""
        black, white = (np.float32(end) for end in before.percentiles())
        values -= black
        values *= _BINS / (white - black)
        np.clip(values, 0, _BINS, out=values)
        rows, columns = self._axes(before.info.shape)
        result = np.empty(roi.shape, np.float32)
        for image, equalised in zip(values, result, strict=True):
            bins = np.minimum(image.astype(np.intp), _BINS - 1)
            image -= bins
            maps = {
                (row, column): self._map(bins[top:bottom, left:right])
                for row, top, bottom in rows.regions(held.y, held.y + held.height)
                for column, left, right in columns.regions(held.x, held.x + held.width)
            }
            for down in rows.spans(roi.y, roi.y + roi.height):
                for across in columns.spans(roi.x, roi.x + roi.width):
                    here = (down.offset(held.y), across.offset(held.x))
                    blend = _blend(bins[here], image[here], maps, down, across)
                    equalised[down.offset(roi.y), across.offset(roi.x)] = blend
        result *= white - black
        result += black
        return result

    def _axes(self, shape: tuple[int, int, int]) -> tuple["_Axis", "_Axis"]:
        return _Axis(shape[1], self.region_px), _Axis(shape[2], self.region_px)

    def _map(self, bins: npt.NDArray[np.intp]) -> "_Map":
        """Return the grey-level map of one region: a clipped, cumulated histogram.

        Clipped where what is above, given to all bins alike, brings the highest to the limit; that
        is the least of the levels at which the k highest would be brought there.
        """
        counts = np.bincount(bins.ravel(), minlength=_BINS)
        falling = np.sort(counts)[::-1]
        highest = np.cumsum(falling) - falling
        levels = (self.slope * bins.size - highest) / np.arange(_BINS, 0, -1)
        clipped = np.minimum(counts, levels.min())
        shares = (clipped + (bins.size - clipped.sum()) / _BINS) / bins.size
        starts = np.cumsum(shares) - shares
        return starts.astype(np.float32), shares.astype(np.float32)


_Map = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""For each bin where it begins, and how far it reaches, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Pixels along an axis that lie between the centres of the same two regions."""

    start: int
    stop: int
    before: int
    after: int
    weights: npt.NDArray[np.float32]
    """Of the region after, for each pixel."""

    def offset(self, origin: int) -> slice:
        return slice(self.start - origin, self.stop - origin)


class _Axis:
    """The regions along one axis of a slice; pixels and regions count from the slice's edge."""

    def __init__(self, size: int, region_px: int) -> None:
        count = max(1, round(size / region_px))
        self._edges = np.arange(count + 1) * size // count
        self._centres = (self._edges[:-1] + self._edges[1:] - 1) / 2

    def covering(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the regions that map these pixels begin and end."""
        before, after = self._around(np.array([start, stop - 1]))
        return int(self._edges[before[0]]), int(self._edges[after[1] + 1])

    def regions(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each region in a range of pixels, and its place in that range."""
        first, last = np.searchsorted(self._edges, (start, stop))
        for region in range(first, last):
            yield region, self._edges[region] - start, self._edges[region + 1] - start

    def spans(self, start: int, stop: int) -> Iterator[_Span]:
        """Yield the spans of a range of pixels."""
        pixels = np.arange(start, stop)
        before, after = self._around(pixels)
        gap = np.maximum(self._centres[after] - self._centres[before], 1)
        weights = np.where(after > before, (pixels - self._centres[before]) / gap, 0)
        changes = np.flatnonzero(np.diff(before) | np.diff(after)) + 1
        for low, high in pairwise([0, *changes, len(pixels)]):
            around = (int(before[low]), int(after[low]))
            yield _Span(start + low, start + high, *around, weights[low:high].astype(np.float32))

    def _around(
        self, pixels: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the region before and after each pixel; outside the last centres both are one."""
        after = np.searchsorted(self._centres, pixels, side="right")
        last = len(self._centres) - 1
        return np.maximum(after - 1, 0), np.minimum(after, last)


def _blend(
    bins: npt.NDArray[np.intp],
    rest: Values,
    maps: Mapping[tuple[int, int], _Map],
    down: _Span,
    across: _Span,
) -> Values:
    def mapped(row: int, column: int) -> Values:
        starts, shares = maps[row, column]
        return starts.take(bins) + shares.take(bins) * rest

    def along(row: int) -> Values:
        return _mixed(mapped(row, across.before), mapped(row, across.after), across.weights)

    return _mixed(along(down.before), along(down.after), down.weights[:, None])


def _mixed(first: Values, second: Values, weights: Values) -> Values:
    second -= first
    second *= weights
    second += first
    return second
