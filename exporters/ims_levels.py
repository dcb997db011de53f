"""The voxels of an Imaris file: a channel in full resolution, and coarser levels made of it.

No more is in memory than a row of blocks, and of coarser levels no more than a few blocks.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.base import Layer
from exporters.blocks import boxes, slabs

_GZIP = 2
_BLOCK_BYTES = 2**20
_SMALLEST_SIDE, _LARGEST_SIDE = 64, 256
# Graphics boards want square slices of a block, and more than two of them.
_SMALLEST_DEPTH = 4
_COARSEST_BYTES = 2**20
_BINS = 256


def write_channel(
    file: Any,  # noqa: ANN401 (h5py has no types)
    channel: int,
    layer: Layer,
    dtype: np.dtype[Any],
    check: Callable[[], None],
    *,
    labels: bool,
) -> tuple[float, float]:
    """Write a layer as a channel, in all resolutions, and return its smallest and largest value.

    Parameters
    ----------
    file : h5py.File
        Open for writing.
    channel : int
        From 0.
    layer : Layer
        What is not a finite number becomes 0.
    dtype : dtype
        Of the whole file; holds every value of the layer.
    check : callable
        Raises OSError once something did not fit on the disk.
    labels : bool
        Whether coarser levels keep one value of several, not their mean.
    """
    span = (0.0, 0.0)
    finer, finer_shape = None, layer.shape
    for level, shape in enumerate(level_shapes(layer.shape, dtype.itemsize)):
        group = file.create_group(f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {channel}")
        data = _create(group, shape, dtype)
        if finer is None:
            span = _fill(data, layer, check)
        else:
            _reduce(finer, finer_shape, data, shape, labels=labels)
        # What did not fit cannot be read back, either.
        file.flush()
        check()
        _describe(group, shape, span)
        finer, finer_shape = data, shape
    return span


def level_shapes(shape: Sequence[int], itemsize: int) -> list[tuple[int, int, int]]:
    """Return the extent (z, y, x) of every level, the full resolution first.

    An axis is halved while it is not much shorter than the others, until a level holds 1 MiB.

    Parameters
    ----------
    shape : sequence of int
        Extent (z, y, x) of the full resolution.
    itemsize : int
        Bytes of a voxel.
    """
    z, y, x = shape
    shapes = [(z, y, x)]
    while (voxels := math.prod((z, y, x))) * itemsize > _COARSEST_BYTES:
        # The format's rule: ten times the axis, squared, exceeds the product of the other two.
        z, y, x = (
            size // 2 if size > 1 and 100 * size**3 > voxels else size for size in shapes[-1]
        )
        shapes.append((z, y, x))
    return shapes


def number(value: float) -> str:
    """Return a number as Imaris writes it, with three decimals if they are enough."""
    return f"{value:.3f}" if round(value, 3) == value else f"{value:.9f}"


def text(value: str) -> npt.NDArray[np.bytes_]:
    """Return a text as Imaris stores it: an array of single bytes."""
    return np.frombuffer(value.encode(), "S1")


def _create(group: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    """Return a dataset of whole blocks."""
    blocks = _block_shape(shape, dtype.itemsize)
    padded = tuple(math.ceil(size / step) * step for size, step in zip(shape, blocks, strict=True))
    return group.create_dataset(
        "Data", padded, dtype, chunks=blocks, compression="gzip", compression_opts=_GZIP
    )


def _block_shape(shape: tuple[int, int, int], itemsize: int) -> tuple[int, int, int]:
    side = min(_LARGEST_SIDE, max(_SMALLEST_SIDE, _power_of_two(max(shape[1:]))))
    deepest = _BLOCK_BYTES // (_LARGEST_SIDE**2 * itemsize)
    depth = min(deepest, max(_SMALLEST_DEPTH, _power_of_two(shape[0]))) if shape[0] > 1 else 1
    return (depth, side, side)


def _power_of_two(size: int) -> int:
    """Return the smallest power of two that is not below `size`."""
    return 1 << (size - 1).bit_length()


def _fill(
    data: Any,  # noqa: ANN401
    layer: Layer,
    check: Callable[[], None],
) -> tuple[float, float]:
    """Write the full resolution, and return its smallest and largest value."""
    deep, side, _ = data.chunks
    ends = []
    for place, block in slabs(layer, deep, side, data.dtype):
        np.nan_to_num(block, copy=False, posinf=0, neginf=0)
        data[(*place, slice(0, layer.shape[2]))] = block
        check()
        ends += [float(block.min()), float(block.max())]
    return min(ends), max(ends)


def _reduce(
    fine: Any,  # noqa: ANN401
    fine_shape: tuple[int, int, int],
    coarse: Any,  # noqa: ANN401
    shape: tuple[int, int, int],
    *,
    labels: bool,
) -> None:
    """Make a level of the one before; what is left over at the far end of an axis is cut off."""
    factors = [1 if size == most else 2 for size, most in zip(shape, fine_shape, strict=True)]
    for box in boxes(shape, coarse.chunks):
        block = fine[
            tuple(
                slice(factor * part.start, factor * part.stop)
                for factor, part in zip(factors, box, strict=True)
            )
        ]
        parts = [
            block[
                tuple(slice(first, None, step) for first, step in zip(corner, factors, strict=True))
            ]
            for corner in product(*(range(factor) for factor in factors))
        ]
        coarse[box] = parts[0] if labels else _mean(parts)


def _mean(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the mean of arrays of equal shape; of integers rounded down, as Imaris does."""
    whole = np.stack(parts)
    if whole.dtype.kind == "f":
        return np.asarray(whole.mean(axis=0, dtype=np.float64))
    return np.asarray(whole.sum(axis=0, dtype=np.uint32) // len(parts))


def _describe(group: Any, shape: tuple[int, int, int], span: tuple[float, float]) -> None:  # noqa: ANN401
    """Write the size of a level, and how often its values occur."""
    data = group["Data"]
    low, high = span if data.dtype.kind == "f" else (0.0, max(span[1], _BINS - 1.0))
    for axis, size in zip("ZYX", shape, strict=True):
        group.attrs[f"ImageSize{axis}"] = text(str(size))
    group.attrs["HistogramMin"] = text(number(low))
    group.attrs["HistogramMax"] = text(number(high))
    scale = (_BINS - 1) / (high - low) if high > low else 0.0
    counts = np.zeros(_BINS, np.int64)
    for box in boxes(shape, data.chunks):
        bins = ((data[box] - low) * scale).astype(np.intp)
        counts += np.bincount(bins.ravel(), minlength=_BINS)
    group.create_dataset("Histogram", data=counts.astype(np.uint64))
