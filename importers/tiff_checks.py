"""What is wrong with a TIFF file: damage that tifffile passes over in silence or drowns in.

tifffile gives damaged files the benefit of the doubt: it stops at the first page it cannot find,
fills what is missing with zeros, and makes room for as many images as a description counts. A
volume must not lose slices in silence, so all of this is checked before the first voxel is used.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

from defusedxml.ElementTree import fromstring
from tifffile import COMPRESSION, TiffFile, TiffPage

from biosegment.errors import UnreadableFileError
from importers.base import describe_shape

# Deflate cannot do better than 1032:1; a page beyond that and this large is a damaged header.
_LARGE_PAGE_BYTES = 2**30
_MOST_COMPRESSED = 1100
_MOST_IMAGES = 10**7


def page_offsets(tiff: TiffFile) -> list[int]:
    """Return where the pages of a file stand, once their chain is known to end.

    Raises
    ------
    UnreadableFileError
        If it breaks off or runs in a circle.
    """
    handle, layout = tiff.filehandle, tiff.tiff
    if not tiff.pages:
        raise UnreadableFileError(handle.path, "it holds no image; it may have been cut off")
    offset = tiff.pages.first.offset
    offsets: dict[int, None] = {}
    while offset:
        if offset in offsets:
            raise UnreadableFileError(handle.path, "the chain of its pages runs in a circle")
        try:
            handle.seek(offset)
            (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
            handle.seek(offset + layout.tagnosize + tags * layout.tagsize)
            (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
        except (struct.error, ValueError, OverflowError, OSError) as exc:
            reason = f"only {len(offsets)} of its pages can be found; it may have been cut off"
            raise UnreadableFileError(handle.path, reason) from exc
        offsets[offset] = None
        offset = following
    return list(offsets)


def check_ome_counts(tiff: TiffFile) -> None:
    """Raise UnreadableFileError if the OME description counts more images than can be."""
    root = fromstring(tiff.ome_metadata or "")
    pixels_of_page = max(1, math.prod(tiff.pages.first.shape))
    for element in root.iter():
        planes = [element.get(name, "0") for name in ("IFD", "PlaneCount", "NumPlanes")]
        firsts = [element.get(f"First{axis}", "0") for axis in "ZCT"]
        images = max(map(int, planes + firsts))
        if element.tag.endswith("Pixels"):
            sizes = [int(element.get(f"Size{axis}", "1")) for axis in "XYZCT"]
            images = max(images, math.prod(sizes[2:]), math.prod(sizes) // pixels_of_page)
        if images > _MOST_IMAGES:
            reason = f"its OME description counts {images} images"
            raise UnreadableFileError(tiff.filehandle.path, reason)
        if "Along" in element.tag and "Start" in element.attrib:
            reason = "its OME description divides an axis into several"
            raise UnreadableFileError(tiff.filehandle.path, reason)


def promised_images(tiff: TiffFile, series: int) -> int:
    """Return how many images the description of a series counts, 0 if it does not count."""
    if tiff.is_imagej and tiff.imagej_metadata:
        counts = tiff.imagej_metadata
        channels, slices, frames, images = (
            int(counts.get(name, 1)) for name in ("channels", "slices", "frames", "images")
        )
        if channels == tiff.pages.first.samplesperpixel > 1:
            # Others than ImageJ count the colour samples of a pixel as channels.
            return slices * frames
        return max(images, channels * slices * frames)
    if tiff.is_shaped and tiff.shaped_metadata:
        voxels = math.prod(tiff.shaped_metadata[series].get("shape", ()))
        return int(voxels // math.prod(tiff.series[series].keyframe.shape))
    return 0


def check_count(path: Path, promised: int, found: int) -> None:
    """Raise UnreadableFileError if fewer images were found than the file should have."""
    if promised > found:
        reason = f"it should have {promised} slices and has {found}; it may have been cut off"
        raise UnreadableFileError(str(path), reason)


def check_page(path: Path, page: TiffPage, first: TiffPage, what: str) -> None:
    """Raise UnreadableFileError if a page differs from the first one or lacks data.

    Parameters
    ----------
    path
        The file to name.
    page, first
        The pages.
    what
        What the page is called, such as ``slice 3``.
    """
    if (page.shape, page.dtype) != (first.shape, first.dtype):
        reason = (
            f"{what} is {describe_shape(page.shape)} {page.dtype}, the first one "
            f"{describe_shape(first.shape)} {first.dtype}"
        )
        raise UnreadableFileError(str(path), reason)
    segments = 1 if page.is_contiguous else math.prod(page.chunked)
    counts, starts = page.databytecounts, page.dataoffsets
    if min(len(counts), len(starts)) < segments or min(counts) < 1 or min(starts) < 1:
        raise UnreadableFileError(str(path), f"{what} holds no data, or not all of it")
    stored = sum(counts)
    if page.compression == COMPRESSION.NONE and page.bitspersample >= 8 and stored < page.nbytes:
        raise UnreadableFileError(str(path), f"{what} holds {stored} of {page.nbytes} bytes")
    check_compression(path, page.shape, page.nbytes, stored, what)
    ends = (start + count for start, count in zip(starts, counts, strict=False))
    check_end(path, max(ends), page.parent.filehandle.size)


def check_compression(
    path: Path, shape: Sequence[int], size: int, stored: int, what: str = "it"
) -> None:
    """Raise UnreadableFileError if `size` bytes cannot have been compressed to `stored` ones."""
    if size > max(_LARGE_PAGE_BYTES, _MOST_COMPRESSED * stored):
        reason = f"{what} says it is {describe_shape(shape)} but holds {stored} bytes"
        raise UnreadableFileError(str(path), reason)


def check_end(path: Path, end: int, size: int) -> None:
    """Raise UnreadableFileError if a file of `size` bytes stops before its images do."""
    if end > size:
        reason = f"it is cut off: its images end at byte {end}, the file at byte {size}"
        raise UnreadableFileError(str(path), reason)
