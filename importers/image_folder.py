"""A folder of single slices: TIFF, PNG or JPEG files of one size, in natural order.

Natural order puts ``s2.png`` before ``s10.png``. Files of other kinds in the folder are ignored.
A single PNG or JPEG file is a volume of one slice. No voxel size can be told: slices do not know
how far apart they lie. Palette images give their indices, which is what label images mean.

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

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from natsort import natsorted
from PIL import Image

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape, storable_dtype
from importers.tiff import TiffReader

_PICTURES = (".png", ".jpg", ".jpeg")
_SLICES = (*_PICTURES, ".tif", ".tiff")
_DTYPES = {"1": "uint8", "L": "uint8", "P": "uint8", "I;16": "uint16", "I;16B": "uint16"}
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class ImageFolderReader(VolumeReader):
    """A folder of image files as a volume, each file being a slice."""

    SUFFIXES = _PICTURES

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        files = tuple(_slice_files(path))
        if not files:
            raise UnreadableFileError(str(path), f"it holds no slices ({', '.join(_SLICES)})")
        height_width, dtype = _common_header(files)
        self._info = VolumeInfo((len(files), *height_width), dtype, None, files)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is neither a folder nor a picture, None if it is."""
        if path.is_dir() or path.suffix.lower() in _PICTURES:
            return None
        return "it is not a folder of slices"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region, whole slices being decoded one after the other."""
        roi.check_within(self.info.shape)
        block = np.empty(roi.shape, self.info.dtype)
        _, rows, columns = roi.slices
        for index, z in enumerate(range(roi.z, roi.z + roi.depth)):
            block[index] = _read_slice(self.info.files[z])[rows, columns]
        return block

    def close(self) -> None:
        """Do nothing: files are open only while one is read."""


@dataclass(frozen=True, slots=True)
class _Header:
    """Size and type of one slice."""

    height_width: tuple[int, int]
    """Rows and columns."""
    dtype: np.dtype[Any]
    """Type of its values."""

    def __str__(self) -> str:
        return f"{describe_shape(self.height_width)} {self.dtype}"


def _slice_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # Hidden files are what other systems leave behind ("._slice.tif"), not slices.
    names = (
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in _SLICES and not entry.name.startswith(".") and entry.is_file()
    )
    return natsorted(names, key=lambda entry: entry.name)


def _common_header(files: tuple[Path, ...]) -> tuple[tuple[int, int], np.dtype[Any]]:
    first = _header(files[0])
    for file in files[1:]:
        header = _header(file)
        if header != first:
            reason = f"its slices differ: {files[0].name} is {first}, {file.name} is {header}"
            raise UnreadableFileError(str(file.parent), reason)
    return first.height_width, first.dtype


def _header(file: Path) -> _Header:
    if file.suffix.lower() in _PICTURES:
        return _picture_header(file)
    with TiffReader(file) as stack:
        depth, height, width = stack.info.shape
        if depth != 1:
            reason = f"it holds {depth} slices, not one; import it without its folder"
            raise UnreadableFileError(str(file), reason)
        return _Header((height, width), stack.info.dtype)


def _picture_header(file: Path) -> _Header:
    with _open_picture(file) as image:
        if image.mode not in _DTYPES:
            reason = f"it is a colour image (mode {image.mode}); save it as grey"
            raise UnreadableFileError(str(file), reason)
        return _Header((image.height, image.width), storable_dtype(file, _DTYPES[image.mode]))


def _open_picture(file: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow refuses at twice the size at which it warns; large slices are usual here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file)
    except _BROKEN as exc:
        raise UnreadableFileError(str(file), f"it is damaged or too large ({exc})") from exc


def _read_slice(file: Path) -> npt.NDArray[Any]:
    if file.suffix.lower() not in _PICTURES:
        with TiffReader(file) as stack:
            return stack.read(Roi.whole(stack.info.shape)).reshape(stack.info.shape[1:])
    with _open_picture(file) as image:
        try:
            pixels: npt.NDArray[Any] = np.asarray(image)
        except _BROKEN as exc:
            raise UnreadableFileError(str(file), f"it is damaged ({exc})") from exc
        return pixels
