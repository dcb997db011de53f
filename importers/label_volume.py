"""A file of labels, and where it lies in the volume that it belongs to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from biosegment.errors import SettingsError
from biosegment.geometry import Roi
from biosegment.labels import LabelMap
from biosegment.store import VolumeStore
from importers.base import Choice, VolumeReader
from importers.convert import check_shape
from importers.detect import open_volume
from importers.label_values import LabelValues
from importers.rois import RoiReader, holds_rois

Mask = npt.NDArray[np.uint8]
_PART = "; if it is a part of it, --at z,y,x says where that begins"


@dataclass(frozen=True, slots=True)
class LabelVolume:
    """Labels of a region of a volume, as classes of a project."""

    reader: VolumeReader
    """Gives the file's values."""
    region: Roi
    """What of the volume they lie on."""
    values: LabelValues
    """What they mean."""
    label_map: LabelMap
    """Of the project."""

    def covers(self, roi: Roi) -> bool:
        """Return whether the labels say something of all of a region of the volume."""
        return all(
            ours.start <= theirs.start and theirs.stop <= ours.stop
            for ours, theirs in zip(self.region.slices, roi.slices, strict=True)
        )

    def mask(self, roi: Roi) -> Mask:
        """Return the classes in a slice of the volume.

        Parameters
        ----------
        roi : Roi
            Of depth 1; it has to be covered.

        Returns
        -------
        ndarray of uint8, shape (H, W)
            Class integers, `UNKNOWN` (255) where nothing is known.

        Raises
        ------
        LabelValuesError
            If a value has no label.
        """
        starts = (roi.z - self.region.z, roi.y - self.region.y, roi.x - self.region.x)
        values = self.reader.read_labels(Roi(*starts, *roi.shape))[0]
        return self.values.masks(str(self.reader.path), values, self.label_map)


@contextmanager
def open_labels(
    source: Path | str,
    store: VolumeStore,
    values: LabelValues,
    label_map: LabelMap,
    choice: Choice = Choice(),  # noqa: B008 (frozen)
    *,
    at: tuple[int, int, int] | None = None,
    shape: tuple[int, int, int] | None = None,
    names: Mapping[int, str] | None = None,
) -> Iterator[LabelVolume]:
    """Open labels of a volume, in any format that volumes are read from, or as ROIs of ImageJ.

    Parameters
    ----------
    source
        A file, folder or address.
    store
        The volume.
    values
        What the file's values mean; names in the file speak for themselves.
    label_map
        Of the project.
    choice
        Which volume of those in the file.
    at
        Voxel (z, y, x) of the volume where the file's first one lies; None for a file of the whole
        volume.
    shape
        Extent (z, y, x) of the file, if that is known.
    names
        What its values mean, if it does not tell.

    Raises
    ------
    LabelsMismatchError
        If the file is of another shape than the region.
    LabelValuesError, LabelConfigError
        If a name or value means no label of the project.
    RegionError
        If the region leaves the volume.
    SettingsError
        If it is a part of the volume, and ROIs, which do not tell how large that is.
    BioSegmentError
        As :func:`importers.detect.open_volume`.
    """
    expected = shape or (None if at else store.shape)
    with _opened(source, choice, expected) as reader:
        reader.check_chosen()
        if expected is not None:
            check_shape(reader, store.name, expected, "" if shape else _PART)
        region = Roi(*(at or (0, 0, 0)), *reader.info.shape)
        region.check_within(store.shape)
        told = reader.info.label_names or names or {}
        meaning = values.named(str(source), told, label_map).checked(label_map)
        yield LabelVolume(reader, region, meaning, label_map)


def _opened(source: Path | str, choice: Choice, shape: tuple[int, int, int] | None) -> VolumeReader:
    """Open a volume, or ROIs on an image of a shape."""
    path = Path(source)
    if not holds_rois(path):
        return open_volume(source, choice)
    if shape is None:
        reason = "is not for ROIs: draw them on the whole stack, or on tiles that were exported"
        raise SettingsError("--at", reason)
    return RoiReader(path, shape=shape)
