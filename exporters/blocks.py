"""Volumes in blocks, so that no more than some of them are in memory."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi
from exporters.ahead import ahead
from exporters.base import Layer

_BUFFER_BYTES = 2**26


def boxes(shape: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield where the blocks of a volume are; those at its end may be smaller.

    Parameters
    ----------
    shape, blocks : sequence of int
        Extent of the volume and of a block, axis by axis.
    """
    steps = [range(0, size, step) for size, step in zip(shape, blocks, strict=True)]
    for corner in product(*steps):
        yield tuple(
            slice(first, min(first + step, size))
            for first, step, size in zip(corner, blocks, shape, strict=True)
        )


def slabs(
    layer: Layer, depth: int, side: int, dtype: np.dtype[Any]
) -> Iterator[tuple[tuple[slice, slice], npt.NDArray[Any]]]:
    """Yield a layer in parts of whole rows, 64 MiB or one row of blocks each.

    A source gives slices one by one, and a block that is written twice is compressed twice. The
    next part is read meanwhile, by a thread.

    Parameters
    ----------
    layer : Layer
        Is read slice by slice.
    depth, side : int
        Slices and rows of a block in the file.
    dtype : dtype
        Of the file; holds every value of the layer.

    Yields
    ------
    tuple of slice
        Slices and rows of the part.
    ndarray of `dtype`, shape (z, y, x)
        Its voxels.
    """
    slices, height, width = layer.shape
    rows = max(1, _BUFFER_BYTES // (depth * side * width * dtype.itemsize)) * side

    def read(zs: slice, ys: slice) -> npt.NDArray[Any]:
        block = np.empty((zs.stop - zs.start, ys.stop - ys.start, width), dtype)
        for place, z in enumerate(range(zs.start, zs.stop)):
            block[place] = layer.read(Roi(z, ys.start, 0, 1, block.shape[1], width))[0]
        return block

    places = boxes((slices, height), (depth, rows))
    return ahead((((zs, ys), read(zs, ys)) for zs, ys in places))
