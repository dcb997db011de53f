"""The images of one stack in a TIFF file: which there are, in which order, and where they lie."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile, TiffPage, TiffPageSeries

from biosegment.errors import ChoiceError, UnreadableFileError
from importers.base import describe_shape
from importers.tiff_checks import (
    check_count,
    check_end,
    check_ome_counts,
    check_page,
    page_offsets,
    promised_images,
)

# What tifffile calls a series of pages that no description explains.
_PLAIN = ("uniform", "generic")
# Pages of unknown meaning are Q to tifffile, and I if they follow one another in a file.
_SLICES = "ZQI"


@dataclass(frozen=True, slots=True)
class TiffStack:
    """A stack of images, each a page of the file or lying where a page would."""

    axes: tuple[tuple[str, int], ...]
    """Letter and extent of what counts the images: T, C, and Z for any kind of slices."""
    first: TiffPage
    """The page of the first image: all others are of its size and type."""
    pages: tuple[tuple[TiffFile, int], ...]
    """File and offset of each image's page; none if the images follow the first one bare."""
    dataset: str | None = None
    """Its name, if the file holds several stacks."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        return (self.size("Z"), self.first.imagelength, self.first.imagewidth)

    @property
    def images(self) -> int:
        """How many there are."""
        return math.prod(size for _, size in self.axes)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the images."""
        paths = [tiff.filehandle.path for tiff, _ in self.pages]
        return tuple(map(Path, dict.fromkeys(paths or [self.first.parent.filehandle.path])))

    def size(self, axis: str) -> int:
        """Return the extent along an axis, 1 if there is none of that letter."""
        return dict(self.axes).get(axis, 1)

    def image(self, z: int, channel: int, time: int) -> tuple[int, int]:
        """Return where a slice is: which image, and which of its colour samples."""
        samples = self.first.samplesperpixel
        place = {"Z": z, "C": channel // samples, "T": time}
        image = 0
        for axis, size in self.axes:
            image = image * size + place[axis]
        return image, channel % samples

    @contextmanager
    def page(self, image: int) -> Iterator[TiffPage]:
        """Give the page of an image, as it stands in its file, while that file is open."""
        tiff, offset = self.pages[image]
        handle = tiff.filehandle
        closed = handle.closed
        if closed:
            handle.open()
        try:
            handle.seek(offset)
            # Made anew, since tifffile lets pages borrow size and compression of another.
            yield TiffPage(tiff, index=image)
        finally:
            if closed:
                handle.close()


def find_stack(path: Path, tiff: TiffFile, dataset: str | None) -> TiffStack:
    """Return the stack in a TIFF file, once all of its images are known to be there.

    Parameters
    ----------
    path
        The file.
    tiff
        The file, open.
    dataset
        Which of several stacks: its name or number.

    Raises
    ------
    ChoiceError
        If there are several and none was chosen, or one that is not there.
    UnreadableFileError
        If images are missing, damaged, or differ.
    """
    offsets = page_offsets(tiff)
    if tiff.is_ome:
        check_ome_counts(tiff)
    number, name = _chosen_series(path, tiff, dataset)
    if tiff.series[number].kind in _PLAIN:
        stack = _plain_stack(path, tiff, offsets)
    else:
        stack = _described_stack(path, tiff, number, name)
    # What tifffile remembers of every page is not needed any more, and may be much.
    del tiff.series
    for each in {each for each, _ in stack.pages}:
        each.pages.cache = False
    if min(stack.shape) < 1:
        raise UnreadableFileError(str(path), f"it says it is {describe_shape(stack.shape)} voxels")
    _check_images(path, stack)
    return stack


def _chosen_series(path: Path, tiff: TiffFile, dataset: str | None) -> tuple[int, str | None]:
    """Return the number of the chosen series, and its name if there are several."""
    series = tiff.series
    if series[0].kind in _PLAIN:
        numbers, names = [0], ["0"]
    else:
        numbers = [n for n, one in enumerate(series) if not one.keyframe.is_reduced] or [0]
        names = [series[number].name for number in numbers]
        if "" in names or len(set(names)) < len(names):
            names = list(map(str, numbers))
    if dataset is None and len(names) == 1:
        return numbers[0], None
    if dataset not in names:
        raise ChoiceError(str(path), "dataset", names, dataset)
    return numbers[names.index(dataset)], dataset


def _plain_stack(path: Path, tiff: TiffFile, offsets: list[int]) -> TiffStack:
    """Return the pages that no description explains: slices, in their order."""
    if tiff.is_ome or tiff.is_shaped:
        raise UnreadableFileError(str(path), "its description does not fit its images")
    first = tiff.pages.first
    if tiff.series[0].kind == "generic":
        # Thumbnails and lower resolutions may stand among them.
        pages = (page for page in tiff.pages if isinstance(page, TiffPage))
        whole = [page for page in pages if not page.is_reduced]
        first = whole[0] if whole else first
        offsets = [page.offset for page in whole] or offsets
    check_count(path, promised_images(tiff, 0), len(offsets))
    _check_axes(path, first.axes, first)
    return TiffStack((("Z", len(offsets)),), first, tuple((tiff, offset) for offset in offsets))


def _described_stack(path: Path, tiff: TiffFile, number: int, name: str | None) -> TiffStack:
    """Return the stack that OME, ImageJ or another description makes of the pages."""
    series = tiff.series[number]
    axes = _check_axes(path, series.axes, series.keyframe, series.shape)
    stack = TiffStack(axes, series.keyframe, tuple(_pages(path, series)), name)
    found = len(stack.pages)
    if found < stack.images and series.dataoffset is not None:
        stack, found = TiffStack(axes, series.keyframe, (), name), stack.images
    check_count(path, max(promised_images(tiff, number), stack.images), found)
    return stack


def _pages(path: Path, series: TiffPageSeries) -> Iterator[tuple[TiffFile, int]]:
    """Yield file and offset of the pages of a series, as far as there are any."""
    for index in range(len(series)):
        try:
            page = series[index]
        except IndexError:
            return
        if page is None:
            raise UnreadableFileError(str(path), f"image {index} is missing")
        yield page.parent, page.offset


def _check_axes(
    path: Path, letters: str, page: TiffPage, sizes: tuple[int, ...] | None = None
) -> tuple[tuple[str, int], ...]:
    """Return letter and extent of what counts the images, Z for slices of any kind."""
    sizes = sizes or page.shape
    # A single colour sample is no axis, nor is any other of extent 1.
    axes = [axis for axis in zip(letters, sizes, strict=True) if axis[1] > 1 or axis[0] in "YX"]
    inside = [
        axis for axis in zip(page.axes, page.shape, strict=True) if axis[1] > 1 or axis[0] in "YX"
    ]
    counting = axes[: len(axes) - len(inside)]
    kinds = ["Z" if letter in _SLICES else letter for letter, _ in counting]
    if len(set(kinds)) < len(kinds):
        reason = f"it holds more than one stack ({describe_shape(sizes)})"
        raise UnreadableFileError(str(path), reason)
    in_page = "".join(letter for letter, _ in inside)
    if axes != counting + inside or in_page not in ("YX", "YXS", "SYX") or set(kinds) - set("TCZ"):
        reason = f"its axes are {letters} ({describe_shape(sizes)}), not z, y and x"
        raise UnreadableFileError(str(path), reason)
    return tuple(zip(kinds, (size for _, size in counting), strict=True))


def _check_images(path: Path, stack: TiffStack) -> None:
    what = "slice" if stack.images == stack.size("Z") else "image"
    if not stack.pages:
        check_page(path, stack.first, stack.first, f"{what} 0")
        end = stack.first.dataoffsets[0] + stack.images * stack.first.nbytes
        check_end(path, end, stack.first.parent.filehandle.size)
    for image in range(len(stack.pages)):
        with stack.page(image) as page:
            check_page(path, page, stack.first, f"{what} {image}")
