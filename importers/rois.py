"""Areas drawn in ImageJ or Fiji: a ROI (.roi) or a ROI Manager's set of them (.zip), as labels.

A ROI marks a pixel whose centre it holds, on the slice that it is associated with; where several
overlap, the later one counts. What it is called says what it is: ``mitochondria-12`` is one of the
``mitochondria``. A name of numbers only, as ImageJ gives, says nothing.

Cannot be read: lines, points, angles and text, which have no area; curves of composite ROIs. Round
corners of rectangles are taken for square.

References
----------
.. [1] https://imagej.net/ij/developer/source/ij/io/RoiDecoder.java.html

Examples
--------
>>> import roifile, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "a.roi"
>>> square = [[10, 20], [14, 20], [14, 22], [10, 22]]
>>> roifile.ImagejRoi.frompoints(square, name="cell-1").tofile(path)
>>> with RoiReader(path, shape=(1, 64, 64)) as rois:
...     int(rois.read(Roi(0, 0, 0, 1, 64, 64)).sum()), rois.info.label_names
(16, {2: 'cell'})
"""

import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from skimage.draw import ellipse, polygon

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice, VolumeInfo, VolumeReader
from importers.damage import explain_damage

UNNAMED: Final = 1
"""Value of areas whose name says nothing."""
_MAGIC = b"Iout"
_MOST_BYTES = 2**28
_NUMBERS_ONLY = re.compile(r"\d*([-_]\d+)*")
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)


def holds_rois(path: Path) -> bool:
    """Return whether a file is a ROI, or a zip file of nothing but ROIs."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        names = []
    if names:
        return all(name.lower().endswith(".roi") for name in names)
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


@dataclass(frozen=True, slots=True)
class _Area:
    z: int
    value: int
    roi: ImagejRoi


class RoiReader(VolumeReader):
    """ROIs as label values of the image that they were drawn on.

    Parameters
    ----------
    path
        A ``.roi`` or ``.zip`` file.
    shape
        Extent (z, y, x) of that image in voxels, which the file does not tell.

    Raises
    ------
    UnreadableFileError
        If the file is damaged, a ROI has no area, or does not say on which slice it lies.
    """

    path: Path

    def __init__(
        self,
        path: Path,
        choice: Choice = Choice(),  # noqa: B008 (frozen)
        *,
        shape: tuple[int, int, int],
    ) -> None:
        super().__init__(path, choice)
        names: dict[str, int] = {"": UNNAMED}
        with explain_damage(path, zipfile.BadZipFile):
            self._areas = [
                _Area(_slice_of(path, roi, shape[0]), names.setdefault(name, len(names) + 1), roi)
                for name, roi in _named_rois(path)
            ]
        label_names = {value: name for name, value in names.items() if name}
        if any(area.value == UNNAMED for area in self._areas):
            label_names = {UNNAMED: ""} | label_names
        dtype = np.dtype(np.uint16)
        self._info = VolumeInfo(shape, dtype, None, (path,), label_names=label_names)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is no file of ROIs, None if it is."""
        return None if holds_rois(path) else "it holds no ROIs of ImageJ"

    @property
    def info(self) -> VolumeInfo:
        """What is known of the image; of names that say nothing, an empty one."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the label values of a region: 0 where no ROI lies."""
        roi.check_within(self.info.shape)
        values = np.zeros(roi.shape, self.info.dtype)
        with explain_damage(self.path):
            for area in self._areas:
                if roi.z <= area.z < roi.z + roi.depth:
                    values[area.z - roi.z][_inside(area.roi, roi)] = area.value
        return values

    def close(self) -> None:
        """Do nothing: the file was read when it was opened."""

    def __reduce__(self) -> Any:  # noqa: ANN401 (a function of keyword arguments)
        return (_reopened, (type(self), self.path, self.choice, self.info.shape))


def _reopened(
    reader: type[RoiReader], path: Path, choice: Choice, shape: tuple[int, int, int]
) -> RoiReader:
    return reader(path, choice, shape=shape)


def _named_rois(path: Path) -> Iterator[tuple[str, ImagejRoi]]:
    """Yield what each ROI is one of, "" if its name does not say, and the ROI."""
    for entry, content in _contents(path):
        roi = ImagejRoi.frombytes(content)
        name = roi.name or Path(entry).stem
        if roi.roitype not in _AREAS or roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
            kind = roi.subtype if roi.subtype != ROI_SUBTYPE.UNDEFINED else roi.roitype
            reason = f"its ROI {name} is of the kind {kind.name.lower()}, which marks no area"
            raise UnreadableFileError(str(path), reason)
        yield "" if _NUMBERS_ONLY.fullmatch(name) else re.sub(r"-\d+$", "", name), roi


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each ROI; a file that unpacks to much more than ROIs is refused."""
    if not zipfile.is_zipfile(path):
        _check_size(path, path.stat().st_size)
        yield path.name, path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_size(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            yield entry.filename, archive.read(entry)


def _check_size(path: Path, size: int) -> None:
    if size > _MOST_BYTES:
        reason = f"its ROIs take {size} bytes of memory, more than {_MOST_BYTES}"
        raise UnreadableFileError(str(path), reason)


def _slice_of(path: Path, roi: ImagejRoi, depth: int) -> int:
    """Return the slice that a ROI lies on, from 0."""
    # Names such as 0012-0345-0678 hold slice, y and x.
    by_name = re.match(r"(\d{4,})-\d{4,}-\d{4,}", roi.name)
    number = roi.z_position or roi.position or (int(by_name[1]) if by_name else 0)
    if number == 0 and depth == 1:
        return 0
    if not 1 <= number <= depth:
        what = f"slice {number}" if number else "no slice"
        reason = (
            f"its ROI {roi.name} belongs to {what}, and there are {depth}; tick in ROI Manager "
            '"Associate ROIs with slices" (More, Options) and add it again'
        )
        raise UnreadableFileError(str(path), reason)
    return number - 1


def _inside(roi: ImagejRoi, window: Roi) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows and columns, in a window, of the pixels whose centre a ROI holds."""
    size = (window.height, window.width)
    if roi.roitype == ROI_TYPE.OVAL:
        height, width = roi.bottom - roi.top, roi.right - roi.left
        centre = (roi.top + (height - 1) / 2 - window.y, roi.left + (width - 1) / 2 - window.x)
        rows, columns = ellipse(*centre, height / 2, width / 2, shape=size)
        return rows, columns
    inside = np.zeros(size, bool)
    # What lies in two parts of a composite is a hole.
    for part in roi.coordinates(multi=True):
        # Coordinates are those of corners; the centre of the first pixel is at 0.5.
        x, y = np.asarray(part, np.float64).T - 0.5
        rows, columns = polygon(y - window.y, x - window.x, size)
        inside[rows, columns] ^= True
    rows, columns = np.nonzero(inside)
    return rows, columns
