"""A folder of single slices: TIFF, PNG or JPEG files of one size, in natural order.

Natural order puts ``s2.png`` before ``s10.png``; gaps in the numbering are told, not filled. Files
of other kinds in the folder are ignored. A single PNG or JPEG file is a volume of one slice.
Colour samples count as channels. Palette images give their indices, which is what labels mean.

Only slices by Zeiss Atlas know how far apart they lie; of others, no voxel size can be told unless
``volume.json`` beside them does, which an export as PNG writes. PNG colours of 16 bits are not
read.

Examples
--------
>>> import tempfile, pathlib
>>> from PIL import Image
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for z in range(2):
...     Image.new("L", (4, 3)).save(folder / f"{z}.png")
>>> with ImageFolderReader(folder) as stack:
...     stack.info.shape
(2, 3, 4)
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from natsort import natsorted
from PIL import Image, ImageFile

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape
from importers.damage import explain_damage
from importers.folder_facts import FolderFacts
from importers.slice_numbers import number_notices
from importers.tiff import TiffReader
from importers.tiff_checks import check_compression
from importers.tiff_scale import TiffScale, slice_distance

_PICTURES = (".png", ".jpg", ".jpeg")
_SLICES = (*_PICTURES, ".tif", ".tiff")
_DEEP = ("I;16", "I;16B")
_COLOURS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("1", "L", "P", *_DEEP), ()),
    "LA": ("grey", "alpha"),
    "RGB": ("red", "green", "blue"),
    "RGBA": ("red", "green", "blue", "alpha"),
}


class ImageFolderReader(VolumeReader):
    """A folder of image files as a volume, each file being a slice."""

    SUFFIXES = _PICTURES

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        reason = self.refusal(path)
        if reason is not None:
            raise UnreadableFileError(str(path), reason)
        self._info = _describe(tuple(_slice_files(path)))
        self.check_choice()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is neither a folder of slices nor a picture, None if it is."""
        if path.is_dir():
            some = any(_is_slice(entry) for entry in path.iterdir())
            return None if some else f"it is a folder without slices ({', '.join(_SLICES)})"
        return None if _is_picture(path) else "it is not a folder of slices"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region; of TIFF slices no more is decoded than it touches."""
        return self._read(roi, labels=False)

    def read_labels(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the values of a region as they are stored, nothing being inverted."""
        return self._read(roi, labels=True)

    def _read(self, roi: Roi, labels: bool) -> npt.NDArray[Any]:
        roi.check_within(self.info.shape)
        block = np.empty(roi.shape, self.info.dtype)
        _, rows, columns = roi.slices
        for index, z in enumerate(range(roi.z, roi.z + roi.depth)):
            file = self.info.files[z]
            if _is_picture(file):
                block[index] = _read_picture(file, self.choice.channel or 0)[rows, columns]
                continue
            with TiffReader(file, Choice(channel=self.choice.channel)) as stack:
                part = Roi(0, roi.y, roi.x, 1, roi.height, roi.width)
                block[index] = (stack.read_labels if labels else stack.read)(part)[0]
        return block

    def close(self) -> None:
        """Do nothing: files are open only while one is read."""


def _slice_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    slices = (entry for entry in path.iterdir() if _is_slice(entry))
    return natsorted(slices, key=lambda entry: entry.name)


def _is_slice(file: Path) -> bool:
    # Hidden files are what other systems leave behind ("._slice.tif"), not slices.
    hidden = file.name.startswith(".")
    return file.suffix.lower() in _SLICES and not hidden and file.is_file()


def _describe(files: tuple[Path, ...]) -> VolumeInfo:
    """Return what is known of the volume that the slices make, each header being read."""
    first, scale = _slice_info(files[0])
    depths = [scale.depth if scale else None]
    for file in files[1:]:
        other, other_scale = _slice_info(file)
        if _kind(other) != _kind(first):
            reason = (
                f"its slices differ: {files[0].name} is {_kind(first)}, {file.name} is "
                f"{_kind(other)}"
            )
            raise UnreadableFileError(str(file.parent), reason)
        depths.append(other_scale.depth if other_scale else None)
    distance, distance_notices = slice_distance(depths)
    told = scale.notices if scale else ()
    facts = FolderFacts.of(files[0].parent)
    if scale and distance:
        scale = replace(scale, z=distance)
    return replace(
        first,
        shape=(len(files), *first.shape[1:]),
        voxel_size=(scale.voxel_size if scale else None) or facts.voxel_size,
        label_names=facts.label_names,
        files=files,
        notices=(
            *number_notices([file.name for file in files]),
            *distance_notices,
            *(scale.notices if scale else ()),
            *(notice for notice in first.notices if notice not in told),
        ),
    )


def _kind(info: VolumeInfo) -> str:
    samples = f" with {info.channels} colour samples" if info.channels > 1 else ""
    return f"{describe_shape(info.shape[1:])} {info.dtype}{samples}"


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in _PICTURES


def _slice_info(file: Path) -> tuple[VolumeInfo, TiffScale | None]:
    """Return what the header of a slice tells."""
    if _is_picture(file):
        return _picture_info(file), None
    with TiffReader(file) as stack:
        slices = stack.info.shape[0] * stack.info.times
        if slices != 1:
            reason = f"it holds {slices} slices, not one; import it without its folder"
            raise UnreadableFileError(str(file), reason)
        return stack.info, stack.scale


def _picture_info(file: Path) -> VolumeInfo:
    with _open_picture(file) as image:
        deep_colour = image.mode not in _DEEP and ";16" in str([tile.args for tile in image.tile])
        if image.mode not in _COLOURS or deep_colour:
            kind = "16 bits a colour" if deep_colour else f"mode {image.mode}"
            reason = f"it is a colour image of a kind that is not read ({kind}); save it as grey"
            raise UnreadableFileError(str(file), reason)
        dtype = np.dtype(np.uint16 if image.mode in _DEEP else np.uint8)
        colours = _COLOURS[image.mode]
        shape = (1, image.height, image.width)
        voxels = math.prod(shape) * dtype.itemsize * max(1, len(colours))
        check_compression(file, shape, voxels, file.stat().st_size)
        return VolumeInfo(
            shape, dtype, None, (file,), channels=max(1, len(colours)), channel_names=colours
        )


@contextmanager
def _open_picture(file: Path) -> Iterator[ImageFile.ImageFile]:
    largest = Image.MAX_IMAGE_PIXELS
    with explain_damage(file, SyntaxError, Image.DecompressionBombError):
        # Pillow refuses pictures of a size that is usual here; ours are measured by their bytes.
        Image.MAX_IMAGE_PIXELS = None
        try:
            with Image.open(file) as image:
                yield image
        finally:
            Image.MAX_IMAGE_PIXELS = largest


def _read_picture(file: Path, channel: int) -> npt.NDArray[Any]:
    with _open_picture(file) as image:
        pixels: npt.NDArray[Any] = np.asarray(image)
        return pixels if pixels.ndim == 2 else pixels[..., channel]
