"""A rectangle of one TIFF page, of which no more is read and decoded than it touches.

A page is stored as rows, one after the other, or in segments (strips or tiles) that are decoded one
by one: compressed, packed into fewer bits, or cut into tiles.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from tifffile import TiffPage


def segment_shape(page: TiffPage) -> tuple[int, int] | None:
    """Return height and width of what can be decoded alone, None if that is the whole page."""
    if page.is_final:
        return (1, page.imagewidth)
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    width = page.tilewidth if page.is_tiled else page.imagewidth
    if height >= page.imagelength and width >= page.imagewidth:
        return None
    return (min(height, page.imagelength), min(width, page.imagewidth))


def read_rows(
    page: TiffPage, start: int, sample: int, rows: slice, columns: slice
) -> npt.NDArray[Any]:
    """Return a rectangle of an image that lies row by row in the file of `page`.

    Parameters
    ----------
    page
        The page that tells the image's size and type.
    start
        Where the image begins in the file, in bytes.
    sample
        Which of its colour samples.
    rows, columns
        The rectangle, both from a start to a stop within the image.
    """
    plane, inner, interleaved = _place(page, sample)
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    across = page.imagewidth * interleaved
    skipped = (plane * page.imagelength + rows.start) * across * dtype.itemsize
    handle = page.parent.filehandle
    pixels = handle.read_array(dtype, (rows.stop - rows.start) * across, start + skipped)
    rectangle: npt.NDArray[Any] = pixels.reshape(-1, page.imagewidth, interleaved)
    return rectangle[:, columns, inner]


def read_rectangle(page: TiffPage, sample: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
    """Return a rectangle of one colour sample of a page, its file being open.

    Parameters
    ----------
    page
        The page, found sound by :func:`importers.tiff_checks.check_page`.
    sample
        Which of its colour samples.
    rows, columns
        The rectangle, both from a start to a stop within the image.
    """
    if page.is_final:
        return read_rows(page, page.dataoffsets[0], sample, rows, columns)
    plane, inner, _ = _place(page, sample)
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    width = page.tilewidth if page.is_tiled else page.imagewidth
    across = math.ceil(page.imagewidth / width)
    down = math.ceil(page.imagelength / height)
    wanted = [
        (plane * down + y) * across + x
        for y in range(rows.start // height, math.ceil(rows.stop / height))
        for x in range(columns.start // width, math.ceil(columns.stop / width))
    ]
    rectangle = np.empty((rows.stop - rows.start, columns.stop - columns.start), page.dtype)
    page.init_decode()

    def place(segment: Sequence[Any]) -> None:
        pixels, (_, _, y, x, _), _ = page.decode(
            *segment, jpegtables=page.jpegtables, jpegheader=page.jpegheader
        )
        if pixels is None:
            raise ValueError("a part of it is missing")
        top, bottom = max(y, rows.start), min(y + height, rows.stop)
        left, right = max(x, columns.start), min(x + width, columns.stop)
        rectangle[
            top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ] = pixels[0, top - y : bottom - y, left - x : right - x, inner]

    segments = page.parent.filehandle.read_segments(
        [page.dataoffsets[index] for index in wanted],
        [page.databytecounts[index] for index in wanted],
        wanted,
    )
    if min(page.maxworkers, len(wanted)) < 2:
        for segment in segments:
            place(segment)
    else:
        # The codecs work without the interpreter's lock. The list raises what failed.
        with ThreadPoolExecutor(page.maxworkers) as pool:
            list(pool.map(place, segments))
    return rectangle


def _place(page: TiffPage, sample: int) -> tuple[int, int, int]:
    """Return the plane that holds a sample, its place in a pixel there, and of how many."""
    if page.planarconfig == 1:
        return 0, sample, page.samplesperpixel
    return sample, 0, 1
