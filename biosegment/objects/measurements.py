"""What there is to measure of the objects of a volume, summed up block by block."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biosegment.errors import ObjectsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import Level, levels
from biosegment.objects.centreline import lengths
from biosegment.objects.components import blocks
from biosegment.objects.crofton import areas_per_crossing, crossings
from biosegment.objects.instances import UNKNOWN_SIZE, is_objects, object_classes
from biosegment.progress import Report
from biosegment.store import VolumeStore

_MOMENTS = 10
"""Count, sums of z, y and x, of their squares, and of zy, zx and yx."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """The objects of one volume, in the order of their numbers; all arrays have shape (O, …)."""

    volume: str
    """Name of the volume."""
    class_names: tuple[str, ...]
    """All classes of the labels, also those without an object."""
    classes: npt.NDArray[np.uint8]
    """Of each object, from 1: an index to `class_names`, plus 1."""
    voxels: npt.NDArray[np.int64]
    volume_um3: npt.NDArray[np.float64]
    surface_um2: npt.NDArray[np.float64]
    """By :mod:`biosegment.objects.crofton`. Where the volume cuts an object off is no surface."""
    centroid_um: npt.NDArray[np.float64]
    """Shape (O, 3): z, y and x from the outer corner of the first voxel."""
    boxes: npt.NDArray[np.int64]
    """Shape (O, 3, 2): from and to along z, y and x, in voxels."""
    axes_um: npt.NDArray[np.float64]
    """Shape (O, 3): the longest first, of the ellipsoid with the same second moments."""
    direction: npt.NDArray[np.float64]
    """Shape (O, 3): where the longest axis points, a unit vector z, y, x with the first one > 0."""
    touches_border: npt.NDArray[np.bool_]
    """Whether it reaches the end of the volume, which may cut it off."""
    mean_intensity: npt.NDArray[np.float64]
    """Of the intensities as recorded."""
    centreline_um: npt.NDArray[np.float64] | None
    """By :mod:`biosegment.objects.centreline`; None if it was not measured."""
    extent_um3: float
    """Of the whole volume."""

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def sphericity(self) -> npt.NDArray[np.float64]:
        """Surface of a ball of the same volume over that of the object: 1 for a ball.

        Not a number for objects that touch the border, of which not all of the surface is seen.
        """
        ball = np.pi ** (1 / 3) * (6 * self.volume_um3) ** (2 / 3)
        whole = ~self.touches_border & (self.surface_um2 > 0)
        ratio = np.full(len(self), np.nan)
        np.divide(ball, self.surface_um2, out=ratio, where=whole)
        return ratio


def measure(
    store: VolumeStore, labels: str, report: Report, *, centrelines: bool = False
) -> Measurements:
    """Measure the objects of a label image.

    Parameters
    ----------
    store
        The volume.
    labels
        Name of a label image that :func:`biosegment.objects.instances.make_objects` made.
    report
        Told of progress.
    centrelines
        Measure lengths too, which takes longer: each object is cut out.

    Raises
    ------
    LabelsNotFoundError
        If there is no such label image.
    ObjectsError
        If it has classes instead of objects, or the voxel size is not known.
    """
    level = levels(store, labels)[0]
    if not is_objects(store, labels):
        raise ObjectsError(
            f"{labels} has classes, make objects of it by `biosegment objects {store.name} "
            f"--labels {labels}`"
        )
    if store.voxel_size is None:
        raise ObjectsError(UNKNOWN_SIZE.format(store.name))
    classes, class_names = object_classes(store, labels)
    sums = _Sums(store, level, store.voxel_size, len(classes) - 1)
    regions = list(blocks(store.shape))
    for done, region in enumerate(regions, start=1):
        sums.add(region)
        report(f"measuring {store.name}", done, len(regions))
    found = lengths(level, sums.boxes, store.voxel_size, report) if centrelines else None
    return sums.measured(store.name, classes, class_names, found)


class _Sums:
    """What adds up over blocks, for each object; 0 collects what is none."""

    def __init__(
        self, store: VolumeStore, level: Level, voxel_size: VoxelSize, objects: int
    ) -> None:
        self._store = store
        self._level = level
        self._size = voxel_size
        self._areas = areas_per_crossing(voxel_size)
        self._moments = np.zeros((_MOMENTS, objects + 1))
        self._intensity = np.zeros(objects + 1)
        self._surface = np.zeros(objects + 1)
        self.boxes = np.zeros((objects + 1, 3, 2), np.int64)
        self.boxes[..., 0] = np.iinfo(np.int64).max

    def add(self, region: Roi) -> None:
        """Add a block. What it takes goes with the objects in it, not with all there are."""
        low = [max(0, part.start - 1) for part in region.slices]
        high = [
            min(size, part.stop + 1)
            for part, size in zip(region.slices, self._level.shape, strict=True)
        ]
        around = Roi(*low, *(stop - start for start, stop in zip(low, high, strict=True)))
        present, places = self._numbered(self._level.read(around))
        z, y, x = (
            slice(part.start - start, part.stop - start)
            for part, start in zip(region.slices, low, strict=True)
        )
        for step, found in crossings(places, (z, y, x)):
            self._surface[present] += self._areas[step] * np.bincount(found, minlength=len(present))
        inner = np.ascontiguousarray(places[z, y, x])
        self._grow_boxes(present, inner, region)
        for offset, plane in enumerate(inner):
            self._add_plane(
                present, plane, Roi(region.z + offset, region.y, region.x, 1, *region.shape[1:])
            )

    def _numbered(
        self, numbers: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Return the objects of a block, 0 first, and for each voxel the place of its object."""
        table = np.zeros(len(self._surface), np.int32)
        table[numbers.ravel()] = 1
        table[0] = 1
        present = np.flatnonzero(table)
        table[present] = np.arange(len(present))
        return present, table[numbers]

    def _add_plane(
        self, present: npt.NDArray[np.int64], plane: npt.NDArray[np.int32], region: Roi
    ) -> None:
        rows, columns = np.nonzero(plane)
        if not len(rows):
            return
        places = plane[rows, columns]

        def total(weights: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
            return np.bincount(places, weights, minlength=len(present))

        z, y, x = region.z, (rows + region.y).astype(float), (columns + region.x).astype(float)
        count, sum_y, sum_x = total(), total(y), total(x)
        self._moments[:, present] += [
            *(count, z * count, sum_y, sum_x),
            *(z * z * count, total(y * y), total(x * x), z * sum_y, z * sum_x, total(y * x)),
        ]
        image = self._store.read(region)[0]
        self._intensity[present] += total(image[rows, columns].astype(float))

    def _grow_boxes(
        self, present: npt.NDArray[np.int64], places: npt.NDArray[np.int32], region: Roi
    ) -> None:
        start = (region.z, region.y, region.x)
        for place, box in enumerate(ndimage.find_objects(places, len(present) - 1), start=1):
            if box is None:
                # It lies in the margin alone.
                continue
            ends = self.boxes[present[place]]
            for axis, part in enumerate(box):
                ends[axis, 0] = min(ends[axis, 0], part.start + start[axis])
                ends[axis, 1] = max(ends[axis, 1], part.stop + start[axis])

    def measured(
        self,
        volume: str,
        classes: npt.NDArray[np.uint8],
        class_names: tuple[str, ...],
        centrelines: npt.NDArray[np.float64] | None,
    ) -> Measurements:
        """Return what the sums make of each object."""
        edges = np.array(self._size.zyx) / 1000
        count = self._moments[0, 1:]
        mean = self._moments[1:4, 1:] / count
        axes, direction = _axes(self._moments[4:, 1:] / count, mean, edges)
        voxel_um3 = float(np.prod(edges))
        shape = np.array(self._level.shape)
        boxes = self.boxes[1:]
        return Measurements(
            volume=volume,
            class_names=class_names,
            classes=classes[1:],
            voxels=count.astype(np.int64),
            volume_um3=count * voxel_um3,
            surface_um2=self._surface[1:],
            centroid_um=(mean.T + 0.5) * edges,
            boxes=boxes,
            axes_um=axes,
            direction=direction,
            touches_border=((boxes[..., 0] == 0) | (boxes[..., 1] == shape)).any(axis=1),
            mean_intensity=self._intensity[1:] / count,
            centreline_um=centrelines,
            extent_um3=float(np.prod(shape)) * voxel_um3,
        )


def _axes(
    squares: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return lengths of the axes, (O, 3), and the direction of the longest, (O, 3).

    The variance of an ellipsoid along an axis is a fifth of its half length squared; that of the
    voxels themselves, a twelfth of their edge squared, comes to that of their centres.
    """
    z, y, x = mean
    zz, yy, xx, zy, zx, yx = squares - [z * z, y * y, x * x, z * y, z * x, y * x]
    matrix = np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx]).T.reshape(-1, 3, 3)
    matrix = (matrix + np.eye(3) / 12) * np.outer(edges, edges)
    variances, vectors = np.linalg.eigh(matrix)
    lengths = 2 * np.sqrt(5 * np.clip(variances[:, ::-1], 0, None))
    longest = vectors[:, :, -1]
    first = np.take_along_axis(longest, (np.abs(longest) > 1e-9).argmax(axis=1)[:, None], axis=1)
    # Adding nothing makes the zeros positive.
    return lengths, longest * np.sign(first) + 0.0
