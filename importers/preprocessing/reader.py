"""A volume file as it is after preprocessing."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from biosegment.geometry import Roi, VoxelSize
from importers.base import VolumeInfo, VolumeReader
from importers.preprocessing.base import Step, part
from importers.preprocessing.stages import Processed, Recorded, Stage

_HELD_BYTES: Final = 2**28
_CELL_PX: Final = 1024
_THREADS: Final = min(4, os.cpu_count() or 1)


class Preprocessed:
    """An opened volume with steps applied, read like any other.

    Whatever region is read, its voxels are those of the steps carried out on the whole volume. At
    most a quarter of a gigabyte of the file is in memory, unless one slice of it cannot be decoded
    in parts; the work is done in cells of 1024 x 1024 pixels.

    Parameters
    ----------
    reader
        Opened; the caller closes it.
    steps
        In their order.
    voxel_size
        What counts instead of what the file tells, before the steps.

    Raises
    ------
    SettingsError
        If a step cannot be applied to this volume.
    """

    def __init__(
        self, reader: VolumeReader, steps: Sequence[Step], voxel_size: VoxelSize | None = None
    ) -> None:
        info = replace(reader.info, voxel_size=voxel_size or reader.info.voxel_size)
        self._recorded = Recorded(reader, info)
        self._bytes_per_voxel = info.dtype.itemsize
        self._stage: Stage = self._recorded
        for step in steps:
            self._stage = Processed(self._stage, step)

    @property
    def info(self) -> VolumeInfo:
        """What is known of the volume after the steps."""
        return self._stage.info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the voxels of a region after the steps.

        Returns
        -------
        ndarray of ``info.dtype``, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        RegionError
            If the region leaves the volume.
        UnreadableFileError
            If the voxels cannot be decoded.
        """
        roi.check_within(self.info.shape)
        result = np.empty(roi.shape, self.info.dtype)

        def fill(cell: Roi) -> None:
            values = self._stage.read(cell)
            if result.dtype.kind in "iu":
                limits = np.iinfo(result.dtype)
                np.clip(np.rint(values, out=values), limits.min, limits.max, out=values)
            result[part(roi, cell)] = values

        with ThreadPoolExecutor(_THREADS) as threads:
            for block in self._blocks(roi):
                self._recorded.hold(self._stage.origin(block))
                # Goes through all results, so that no error is lost.
                list(threads.map(fill, _split(block, 1, _CELL_PX, _CELL_PX)))
        return result

    def _blocks(self, roi: Roi) -> Iterator[Roi]:
        """Yield parts of a region, so large that what they are made of can be held in memory."""
        recorded = self._stage.origin(Roi(roi.z, roi.y, roi.x, 1, roi.height, roi.width))
        size = math.prod(recorded.shape) * self._bytes_per_voxel
        rows = roi.height
        if size > _HELD_BYTES and self.info.chunks is not None:
            rows = max(_HELD_BYTES * roi.height // size // _CELL_PX, 1) * _CELL_PX
        return _split(roi, max(_HELD_BYTES // size, 1), rows, roi.width)


def _split(roi: Roi, depth: int, rows: int, columns: int) -> Iterator[Roi]:
    steps = (
        range(start, start + size, step)
        for start, size, step in zip(
            (roi.z, roi.y, roi.x), roi.shape, (depth, rows, columns), strict=True
        )
    )
    for z, y, x in product(*steps):
        yield Roi(
            z,
            y,
            x,
            min(depth, roi.z + roi.depth - z),
            min(rows, roi.y + roi.height - y),
            min(columns, roi.x + roi.width - x),
        )
