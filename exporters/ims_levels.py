"""The voxels of an Imaris file: a channel in full resolution, and coarser levels made of it.

No more is in memory than a row of blocks, and of coarser levels no more than a few blocks.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.ahead import ahead
from exporters.base import Layer
from exporters.blocks import boxes, slabs
from exporters.hdf5_file import write_compressed

_GZIP = 2
_BLOCK_BYTES = 2**20
_SMALLEST_SIDE, _LARGEST_SIDE = 64, 256
# Graphics boards want square slices of a block, and more than two of them.
_SMALLEST_DEPTH = 4
_COARSEST_BYTES = 2**20
_BINS = 256
# Read as eight times as many, and the next ones meanwhile.
_REDUCED_BYTES = 2**23
# Values counted at a time; one of so many is looked at first; as many different ones are few.
_COUNTED, _LOOKED_AT, _FEW = 2**18, 2**8, 4


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
            blocks = _fill(data, layer, check)
        else:
            blocks = _reduce(finer, finer_shape, data, shape, labels=labels)
        found, counts = _tally(blocks, dtype)
        # What did not fit cannot be read back, either.
        file.flush()
        check()
        span = span if finer else found
        _describe(group, shape, span, counts)
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
) -> Iterator[npt.NDArray[Any]]:
    """Write the full resolution, and yield what was written."""
    deep, side, _ = data.chunks
    for place, block in slabs(layer, deep, side, data.dtype):
        if block.dtype.kind == "f":
            np.nan_to_num(block, copy=False, posinf=0, neginf=0)
        write_compressed(data, [*(part.start for part in place), 0], block)
        check()
        yield block


def _reduce(
    fine: Any,  # noqa: ANN401
    fine_shape: tuple[int, int, int],
    coarse: Any,  # noqa: ANN401
    shape: tuple[int, int, int],
    *,
    labels: bool,
) -> Iterator[npt.NDArray[Any]]:
    """Make a level of the one before, and yield what was written.

    What is left over at the far end of an axis is cut off.
    """
    factors = [1 if size == most else 2 for size, most in zip(shape, fine_shape, strict=True)]
    deep, side, _ = coarse.chunks
    rows = max(1, _REDUCED_BYTES // (deep * side * shape[2] * coarse.dtype.itemsize)) * side
    places = list(boxes(shape, (deep, rows, shape[2])))

    def read(box: tuple[slice, ...]) -> npt.NDArray[Any]:
        pairs = zip(factors, box, strict=True)
        found = fine[tuple(slice(each * part.start, each * part.stop) for each, part in pairs)]
        return np.asarray(found)

    for box, block in zip(places, ahead(map(read, places)), strict=True):
        parts = [
            block[
                tuple(slice(first, None, step) for first, step in zip(corner, factors, strict=True))
            ]
            for corner in product(*(range(factor) for factor in factors))
        ]
        reduced = parts[0] if labels else _mean(parts)
        write_compressed(coarse, [part.start for part in box], reduced)
        yield reduced


def _mean(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the mean of arrays of equal shape; of integers rounded down, as Imaris does."""
    whole = np.stack(parts)
    if whole.dtype.kind == "f":
        return np.asarray(whole.mean(axis=0, dtype=np.float64))
    return np.asarray(whole.sum(axis=0, dtype=np.uint32) // len(parts))


def _tally(
    blocks: Iterator[npt.NDArray[Any]], dtype: np.dtype[Any]
) -> tuple[tuple[float, float], npt.NDArray[np.int64] | None]:
    """Return the smallest and largest value of blocks, and of integers how often each occurs."""
    if dtype.kind == "f":
        ends = [(float(block.min()), float(block.max())) for block in blocks]
        return (min(low for low, _ in ends), max(high for _, high in ends)), None
    counts = np.zeros(np.iinfo(dtype).max + 1, np.int64)
    for block in blocks:
        counts += value_counts(np.asarray(block, dtype))
    occurring = counts.nonzero()[0]
    return (float(occurring[0]), float(occurring[-1])), counts


def value_counts(values: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.int64]:
    """Return how often each value of an 8-bit or 16-bit array occurs.

    Piece by piece, none larger than the processor's caches hold; NumPy counts eight bytes for each
    value.

    Parameters
    ----------
    values : ndarray of uint8 or uint16
        Of any shape.

    Returns
    -------
    ndarray of int64, shape (256,) or (65536,)
        By value.

    Examples
    --------
    >>> value_counts(np.array([[1, 0, 1]], "uint8"))[:3].tolist()
    [1, 2, 0]
    """
    flat = np.ascontiguousarray(values).ravel()
    counts = np.zeros(np.iinfo(flat.dtype).max + 1, np.int64)
    # Of labels, a look at some finds the few that there are, and comparing is faster.
    few = np.unique(flat[::_LOOKED_AT])[:_FEW]
    for start in range(0, flat.size, _COUNTED):
        piece = flat[start : start + _COUNTED]
        found = [np.count_nonzero(piece == value) for value in few]
        if sum(found) == piece.size:
            counts[few] += found
        else:
            counts += np.bincount(piece, minlength=counts.size)
    return counts


def _describe(
    group: Any,  # noqa: ANN401
    shape: tuple[int, int, int],
    span: tuple[float, float],
    counts: npt.NDArray[np.int64] | None,
) -> None:
    """Write the size of a level, and how often its values occur; of floats they are read again."""
    data = group["Data"]
    low, high = span if counts is None else (0.0, max(span[1], _BINS - 1.0))
    for axis, size in zip("ZYX", shape, strict=True):
        group.attrs[f"ImageSize{axis}"] = text(str(size))
    group.attrs["HistogramMin"] = text(number(low))
    group.attrs["HistogramMax"] = text(number(high))
    scale = (_BINS - 1) / (high - low) if high > low else 0.0
    histogram = np.zeros(_BINS, np.int64)
    if counts is None:
        for box in boxes(shape, data.chunks):
            bins = ((data[box] - low) * scale).astype(np.intp)
            histogram += np.bincount(bins.ravel(), minlength=_BINS)
    else:
        values = np.arange(min(counts.size, int(high) + 1))
        np.add.at(histogram, (values * scale).astype(np.intp), counts[: values.size])
    group.create_dataset("Histogram", data=histogram.astype(np.uint64))
