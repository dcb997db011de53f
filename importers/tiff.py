"""TIFF stacks: multi-page, BigTIFF, OME-TIFF and ImageJ, one channel, any usual compression.

Read with tifffile (https://github.com/cgohlke/tifffile), which gives damaged files the benefit of
the doubt: it stops at the first page it cannot find and fills what is missing with zeros. A volume
must not lose slices in silence, so everything is checked here before the first voxel is used.

Cannot be read: more than one channel, time point or image in a file; RGB. Plain TIFF knows no
voxel size: its resolution in dots per inch is nearly always a default, and is not used.

Examples
--------
>>> import numpy as np, tifffile, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.tif"
>>> tifffile.imwrite(path, np.zeros((2, 3, 4), "uint8"), photometric="minisblack")
>>> with TiffReader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tifffile import COMPRESSION, TiffFile, TiffFileError, TiffFrame, TiffPage, TiffPageSeries

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape, storable_dtype
from importers.tiff_voxel_size import tiff_voxel_size

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Deflate cannot do better than 1032:1; a page beyond that and this large is a damaged header.
_LARGE_PAGE_BYTES = 2**30
_MOST_COMPRESSED = 1100
# What tifffile and imagecodecs raise on bytes that make no sense (their own errors derive from
# RuntimeError and ValueError).
_NONSENSE = (
    TiffFileError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class TiffReader(VolumeReader):
    """A TIFF file as a volume, its pages being the slices."""

    SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".tf8", ".btf")

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with _explain_nonsense(path):
            self._tiff = TiffFile(path)
        try:
            with _explain_nonsense(path):
                self._series = _only_series(self._tiff)
                self._info = _checked_info(path, self._tiff, self._series)
        except BaseException:
            self.close()
            raise

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a TIFF file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            return None if file.read(4) in _MAGIC else "it does not begin like a TIFF file"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, whole pages being decoded one after the other."""
        roi.check_within(self.info.shape)
        block = np.empty(roi.shape, self.info.dtype)
        _, rows, columns = roi.slices
        for index, z in enumerate(range(roi.z, roi.z + roi.depth)):
            with _explain_nonsense(self.path, f"slice {z} is damaged"):
                block[index] = self._read_slice(z)[rows, columns]
        return block

    def _read_slice(self, z: int) -> npt.NDArray[Any]:
        _, height, width = self.info.shape
        if self._series.dataoffset is None:
            return _page(self._series, z).asarray().reshape(height, width)
        dtype = self._series.dtype.newbyteorder(self._tiff.byteorder)
        offset = self._series.dataoffset + z * height * width * dtype.itemsize
        handle = self._tiff.filehandle
        handle.seek(offset)
        return handle.read_array(dtype, height * width).reshape(height, width)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


@contextmanager
def _explain_nonsense(path: Path, what: str = "it is damaged") -> Iterator[None]:
    try:
        yield
    except UnreadableFileError:
        raise
    except _NONSENSE as exc:
        raise UnreadableFileError(str(path), f"{what} ({exc})") from exc


def _only_series(tiff: TiffFile) -> TiffPageSeries:
    path = tiff.filehandle.path
    pages = len(tiff.pages)
    if pages == 0:
        raise UnreadableFileError(path, "it holds no image; it may have been cut off")
    if _next_page(tiff) != 0:
        raise UnreadableFileError(
            path, f"only {pages} of its pages can be found; it may have been cut off"
        )
    if len(tiff.series) != 1:
        kinds = ", ".join(f"{describe_shape(one.shape)} {one.dtype}" for one in tiff.series[:3])
        raise UnreadableFileError(
            path, f"it holds {len(tiff.series)} images of different kinds ({kinds}, …), not one"
        )
    return tiff.series[0]


def _next_page(tiff: TiffFile) -> int:
    """Return the offset that follows the last page that tifffile found; 0 ends a whole file."""
    handle = tiff.filehandle
    handle.seek(tiff.pages.next_page_offset or 0)
    (offset,) = struct.unpack(tiff.tiff.offsetformat, handle.read(tiff.tiff.offsetsize))
    return int(offset)


def _checked_info(path: Path, tiff: TiffFile, series: TiffPageSeries) -> VolumeInfo:
    shape = _volume_shape(path, series)
    dtype = storable_dtype(path, series.dtype)
    promised, found = max(_promised_images(tiff), shape[0]), min(len(series), shape[0])
    if promised > found:
        reason = f"it should have {promised} slices and has {found}; it may have been cut off"
        raise UnreadableFileError(str(path), reason)
    if series.dataoffset is None or len(series) == len(tiff.pages):
        for z in range(shape[0]):
            _check_page(path, series, z)
    if series.dataoffset is not None:
        end = series.dataoffset + int(np.prod(shape, dtype=object)) * dtype.itemsize
        _check_end(path, end, tiff.filehandle.size)
    return VolumeInfo(shape, dtype, tiff_voxel_size(tiff), (path,))


def _volume_shape(path: Path, series: TiffPageSeries) -> tuple[int, int, int]:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if len(sizes) < len(series.axes):
        reason = f"it holds more than one stack ({describe_shape(series.shape)})"
        raise UnreadableFileError(str(path), reason)
    for axis, what in (("C", "channels"), ("S", "colour samples"), ("T", "time points")):
        if axis in sizes:
            reason = f"it holds {sizes[axis]} {what}; save one grey z stack of it"
            raise UnreadableFileError(str(path), reason)
    # tifffile calls pages of unknown meaning Q, and those ImageJ does not explain I.
    slices = [axis for axis in sizes if axis not in "YX"]
    if set(slices) - set("ZQI") or len(slices) > 1 or not {"Y", "X"} <= set(sizes):
        reason = f"its axes are {series.axes} ({describe_shape(series.shape)}), not z, y and x"
        raise UnreadableFileError(str(path), reason)
    shape = (sizes[slices[0]] if slices else 1, sizes["Y"], sizes["X"])
    if min(shape) < 1:
        raise UnreadableFileError(str(path), f"it says it is {describe_shape(shape)} voxels")
    return shape


def _promised_images(tiff: TiffFile) -> int:
    """Return how many images the file's own description counts, 0 if it does not count."""
    if tiff.is_imagej and tiff.imagej_metadata:
        counts = tiff.imagej_metadata
        hyperstack = [int(counts.get(axis, 1)) for axis in ("channels", "slices", "frames")]
        return max(int(counts.get("images", 1)), int(np.prod(hyperstack, dtype=object)))
    if tiff.is_shaped and tiff.shaped_metadata:
        shape = tiff.shaped_metadata[0].get("shape", (1, 1))
        return int(np.prod(shape[:-2], dtype=object))
    return 0


def _page(series: TiffPageSeries, z: int) -> TiffPage:
    page = series[z]
    if page is None:
        raise UnreadableFileError(series.keyframe.parent.filehandle.path, f"slice {z} is missing")
    # A frame borrows size and compression of another page: read what this one says itself.
    return page.aspage() if isinstance(page, TiffFrame) else page


def _check_page(path: Path, series: TiffPageSeries, z: int) -> None:
    page = _page(series, z)
    first = series.keyframe
    if (page.shape, page.dtype) != (first.shape, first.dtype):
        reason = (
            f"slice {z} is {describe_shape(page.shape)} {page.dtype}, the first one "
            f"{describe_shape(first.shape)} {first.dtype}"
        )
        raise UnreadableFileError(str(path), reason)
    stored = sum(page.databytecounts)
    if not page.databytecounts or min(page.databytecounts) < 1 or min(page.dataoffsets) < 1:
        raise UnreadableFileError(str(path), f"slice {z} holds no data")
    if page.compression == COMPRESSION.NONE and page.bitspersample >= 8 and stored < page.nbytes:
        raise UnreadableFileError(str(path), f"slice {z} holds {stored} of {page.nbytes} bytes")
    if page.nbytes > max(_LARGE_PAGE_BYTES, _MOST_COMPRESSED * stored):
        reason = f"slice {z} says it is {describe_shape(page.shape)} but holds {stored} bytes"
        raise UnreadableFileError(str(path), reason)
    ends = (
        start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    _check_end(path, max(ends), page.parent.filehandle.size)


def _check_end(path: Path, end: int, size: int) -> None:
    if end > size:
        reason = f"it is cut off: its images end at byte {end}, the file at byte {size}"
        raise UnreadableFileError(str(path), reason)
