"""ROIs of ImageJ and Fiji (.zip): the outline of every object in every slice.

An object is what hangs together in a slice and has one value. It is called after its class and
numbered, ``mitochondria-12``, has the colour of its class, and lies on its slice of the stack.
Outlines go along the edges of pixels, so that the area in ImageJ is the number of pixels. An object
with holes is a composite ROI. Where values number objects, all that has a number in a slice is one
ROI, called after it and the slice, ``17-4``.

Cannot be stored: intensities, voxel sizes, classes that do not occur.

References
----------
.. [1] https://imagej.net/ij/developer/source/ij/io/RoiDecoder.java.html

Examples
--------
>>> import numpy as np, roifile, tempfile, pathlib
>>> from exporters.testing import CLASSES, layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.zip"
>>> RoiWriter().write(path, None, layer_of(np.ones((1, 2, 3), "uint8"), CLASSES))
>>> [roi] = roifile.roiread(path)
>>> roi.name, roi.coordinates().tolist()
('mitochondria-1', [[0, 2], [0, 0], [3, 0], [3, 2]])
"""

import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi
from skimage.measure import find_contours, regionprops
from skimage.measure import label as connected

from exporters.base import LabelClass, Layer, VolumeWriter, renamed
from exporters.extents import plane_boxes
from exporters.object_colours import object_colour

Outline = npt.NDArray[np.intp]
"""Corners x, y of a closed polygon, shape (N, 2); each edge is one straight line."""
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
_NAMELESS, _OPAQUE = (255, 255, 255), 255
_Colour: TypeAlias = tuple[int, int, int]
_DATE = (1980, 1, 1, 0, 0, 0)


class RoiWriter(VolumeWriter):
    """Writes sets of ROIs."""

    LABELS_SUFFIX = ".zip"
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def notices(self, labels: Layer) -> tuple[str, ...]:
        """Return which names were changed."""
        return renamed((each.name, _file_name(each.name)) for each in labels.classes)

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        assert labels is not None
        found = _of_classes(labels) if labels.classes else _of_objects(labels)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for roi, colour in found:
                roi.stroke_color = bytes([_OPAQUE, *colour])
                entry = zipfile.ZipInfo(f"{roi.name}.roi", _DATE)
                archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)


def _of_classes(labels: Layer) -> Iterator[tuple[ImagejRoi, _Colour]]:
    """Yield a ROI of each object, numbered by class."""
    classes = {each.value: each for each in labels.classes}
    counts: Counter[str] = Counter()
    for z, plane in enumerate(labels.planes()):
        for value, found in _objects(plane):
            known = classes.get(value, LabelClass(value, f"value {value}", _NAMELESS))
            name = _file_name(known.name)
            counts[name] += 1
            yield _roi(found, f"{name}-{counts[name]}", z), known.colour


def _of_objects(labels: Layer) -> Iterator[tuple[ImagejRoi, _Colour]]:
    """Yield a ROI of each value in each slice."""
    for z, plane in enumerate(labels.planes()):
        for value, rows, columns in plane_boxes(plane):
            corner = np.array([columns.start, rows.start])
            found = [each + corner for each in outlines(plane[rows, columns] == value)]
            yield _roi(found, f"{value}-{z + 1}", z), object_colour(value)


def _file_name(name: str) -> str:
    # ImageJ lists ROIs by the names of files.
    return re.sub(r"[/\\]", "_", name)


def _objects(plane: npt.NDArray[Any]) -> Iterator[tuple[int, list[Outline]]]:
    """Yield value and outlines, those of its holes included, of each object of a slice."""
    for region in regionprops(connected(plane, background=0, connectivity=1)):
        top, left, _, _ = region.bbox
        value = int(plane[tuple(region.coords[0])])
        yield value, [outline + np.array([left, top]) for outline in outlines(region.image)]


def outlines(mask: npt.NDArray[np.bool_]) -> list[Outline]:
    """Return the polygons along the edges of pixels that bound a mask.

    A pixel is inside if it lies in an odd number of them.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)

    Examples
    --------
    >>> outlines(np.ones((1, 2), bool))[0].tolist()
    [[0, 1], [0, 0], [2, 0], [2, 1]]
    """
    found = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        # The contour passes the middle of each edge between a pixel inside and one outside: one
        # coordinate is half a number. Two neighbouring edges share a corner.
        here, there = contour[:-1] - 1, np.roll(contour[:-1], -1, axis=0) - 1
        half_here, half_there = here % 1 == 0.5, there % 1 == 0.5
        corners = np.where(half_here, here, np.where(half_there, there, (here + there) / 2)) + 0.5
        turns = (np.roll(corners, 1, axis=0) != np.roll(corners, -1, axis=0)).all(axis=1)
        found.append(corners[turns][:, ::-1].astype(np.intp))
    return found


def _roi(found: list[Outline], name: str, z: int) -> ImagejRoi:
    if len(found) == 1:
        roi = ImagejRoi.frompoints(found[0], name=name, position=z, c=0, z=z, t=0)
        roi.roitype = ROI_TYPE.TRACED
        return roi
    corners = np.concatenate(found)
    path = np.concatenate([_path(outline) for outline in found])
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        options=ROI_OPTIONS.OVERLAY_BACKGROUNDS | ROI_OPTIONS.OVERLAY_LABELS,
        name=name,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        shape_roi_size=len(path),
        multi_coordinates=path,
        position=z + 1,
        c_position=1,
        z_position=z + 1,
        t_position=1,
    )


def _path(outline: Outline) -> npt.NDArray[np.float32]:
    kinds = np.full((len(outline), 1), _LINE)
    kinds[0] = _MOVE
    steps = np.hstack([kinds, outline])
    return np.append(steps.ravel(), _CLOSE).astype(np.float32)
