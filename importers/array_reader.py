"""Readers of formats that give a part of an array when it is indexed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import LinkError
from biosegment.geometry import Roi
from importers.axes import Axes
from importers.base import VolumeInfo, VolumeReader
from importers.damage import explain_damage


class ArrayReader(VolumeReader):
    """A volume that is an array in a file, or a part of one."""

    _array: Any
    """Gives an ndarray when indexed; decodes no more than the blocks that are touched."""
    _axes: Axes
    """What the axes of that array are."""
    _info: VolumeInfo

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region; only the blocks that it touches are decoded."""
        roi.check_within(self.info.shape)
        what = "its voxels cannot be decoded"
        if isinstance(self.path, str):
            # Python's own http.server is one of those; it sends the whole file instead of a part.
            what += ", or its server does not send parts of files"
        with explain_damage(self.path, what=what):
            block = self._array[self._axes.index(roi, self.choice)]
            return np.ascontiguousarray(self._axes.to_zyx(block), self.info.dtype)

    def link_index(self) -> tuple[int | None, ...]:
        """Return the chosen position along each axis of the array, None for z, y and x.

        Raises
        ------
        LinkError
            If they are in another order, or values are not meant as they are stored.
        """
        names = self._axes.names
        if [name for name in names if name in "zyx"] != list("zyx"):
            raise LinkError(str(self.path), f"its axes are {names}, not in the order z, y, x")
        if np.dtype(self._array.dtype).newbyteorder("=") != self.info.dtype:
            raise LinkError(str(self.path), f"its values are stored as {self._array.dtype}")
        place = {"c": self.choice.channel or 0, "t": self.choice.time or 0}
        return tuple(None if name in "zyx" else place.get(name, 0) for name in names)
