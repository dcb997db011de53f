"""Connected components of a label image that need not fit in memory.

Each block is labelled together with one voxel of the blocks before it along z, y and x. Two
components are the same where they share a voxel of that rim: of any two voxels that touch, also by
an edge or a corner, some block sees both. So the result does not depend on the blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr
from scipy import ndimage, sparse

from biosegment.errors import ObjectsError
from biosegment.geometry import Roi
from biosegment.levels import Level
from biosegment.ome_zarr import SHARD_PX
from biosegment.progress import Progress, ignore

BLOCK_VOXELS: Final = 2**25
"""Voxels in memory at a time, each as a label value and a few numbers of components."""
CONNECTIVITIES: Final = {6: 1, 18: 2, 26: 3}
"""How many neighbours of a voxel touch it: those that share a face, an edge too, or a corner."""
_Pairs: TypeAlias = npt.NDArray[np.uint32]
_MOST: Final = np.iinfo(np.uint32).max


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The components of a label image, in the order of their boxes; number 0 stands for none."""

    of: npt.NDArray[np.uint32]
    """Which component a piece is part of, shape (pieces + 1,)."""
    classes: npt.NDArray[np.uint8]
    """The value that a component has in the label image, shape (components + 1,)."""
    voxels: npt.NDArray[np.int64]
    """How many there are, shape (components + 1,)."""
    boxes: npt.NDArray[np.int64]
    """From and to along z, y and x, shape (components + 1, 3, 2)."""

    def __len__(self) -> int:
        return len(self.classes) - 1


def blocks(shape: Sequence[int], voxels: int = BLOCK_VOXELS) -> Iterator[Roi]:
    """Yield the blocks of a volume, each whole files of the store, in the order of z, y and x.

    Parameters
    ----------
    shape
        Extent (z, y, x) of the volume.
    voxels
        How many a block may have; a slice, or the part of it that is one file, is never cut.
    """
    height, width = (min(size, SHARD_PX) for size in shape[1:])
    depth = max(1, voxels // (height * width))
    steps = zip(shape, (depth, height, width), strict=True)
    for z, y, x in product(*(range(0, size, step) for size, step in steps)):
        ends = (min(depth, shape[0] - z), min(height, shape[1] - y), min(width, shape[2] - x))
        yield Roi(z, y, x, *ends)


def find_components(
    labels: Level,
    pieces: zarr.Array[Any],
    *,
    connectivity: int = 26,
    min_voxels: int = 1,
    fill_holes: int = 0,
    block_voxels: int = BLOCK_VOXELS,
    progress: Progress = ignore,
) -> Components:
    """Return the components of each class of a label image.

    Parameters
    ----------
    labels
        Values up to 255, 0 for background.
    pieces : zarr.Array of uint32, shape of `labels` (z, y, x)
        Gets the number of the piece that each voxel is part of: :attr:`Components.of` tells which
        component that is. Holes are pieces too, if they are to be filled.
    connectivity
        6, 18 or 26: see :data:`CONNECTIVITIES`.
    min_voxels
        Smaller components are none.
    fill_holes
        Background that is enclosed by one component alone, and has at most that many voxels, is
        made part of it. Background is connected by faces.
    block_voxels
        As `voxels` of :func:`blocks`.
    progress
        Told the blocks done and in all.

    Raises
    ------
    ObjectsError
        If there are more pieces than can be counted.
    """
    search = _Search(labels, pieces, connectivity, fill_holes > 0)
    regions = list(blocks(labels.shape, block_voxels))
    for number, region in enumerate(regions, start=1):
        search.add(region)
        progress(number, len(regions))
    return search.joined(min_voxels, fill_holes)


class _Search:
    """What is found block by block: pieces, and which of them are one."""

    def __init__(
        self, labels: Level, pieces: zarr.Array[Any], connectivity: int, with_holes: bool
    ) -> None:
        self._labels = labels
        self._pieces = pieces
        self._structure = ndimage.generate_binary_structure(3, CONNECTIVITIES[connectivity])
        self._with_holes = with_holes
        self._classes: list[npt.NDArray[np.uint8]] = [np.zeros(1, np.uint8)]
        self._voxels: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._boxes: list[npt.NDArray[np.int64]] = [np.zeros((1, 3, 2), np.int64)]
        self._same: list[_Pairs] = []
        self._touching: list[_Pairs] = []
        self._count = 0

    def add(self, region: Roi) -> None:
        """Find the pieces of a block, and write their numbers."""
        rim = tuple(int(part.start > 0) for part in region.slices)
        around = Roi(
            *(part.start - before for part, before in zip(region.slices, rim, strict=True)),
            *(size + before for size, before in zip(region.shape, rim, strict=True)),
        )
        values = self._labels.read(around)
        numbers, classes = self._numbered(values)
        if self._count + len(classes) > _MOST:
            reason = "the segmentation is too ragged: more than four thousand million pieces"
            raise ObjectsError(reason)
        np.add(numbers, np.uint32(self._count), out=numbers, where=numbers > 0)
        for axis in range(3):
            if rim[axis]:
                self._join(around, numbers, axis)
        if self._with_holes:
            self._touching.append(_contacts(values, numbers))
        inner = numbers[rim[0] :, rim[1] :, rim[2] :]
        self._describe(inner, region, classes)
        self._pieces[region.slices] = inner
        self._count += len(classes)

    def _numbered(
        self, values: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
        """Return the pieces of a block, from 1, and the class of each."""
        numbers = np.zeros(values.shape, np.uint32)
        classes: list[int] = []
        present = np.flatnonzero(np.bincount(values.ravel(), minlength=1)).tolist()
        for value in present:
            if value == 0 and not self._with_holes:
                continue
            found, count = ndimage.label(values == value, self._structure if value else None)
            np.add(found, len(classes), out=numbers, where=found > 0, casting="unsafe")
            classes += [value] * count
        return numbers, np.array(classes, np.uint8)

    def _join(self, around: Roi, numbers: npt.NDArray[np.uint32], axis: int) -> None:
        """Note which pieces are also those that earlier blocks found, in the rim along an axis."""
        rim = [slice(None)] * 3
        rim[axis] = slice(0, 1)
        plane = list(around.slices)
        plane[axis] = slice(plane[axis].start, plane[axis].start + 1)
        before = np.asarray(self._pieces[tuple(plane)])
        self._same.append(_pairs(before, numbers[tuple(rim)]))

    def _describe(
        self, numbers: npt.NDArray[np.uint32], region: Roi, classes: npt.NDArray[np.uint8]
    ) -> None:
        local = np.where(numbers > 0, numbers - np.uint32(self._count), 0).astype(np.int32)
        counts = np.bincount(local[local > 0], minlength=len(classes) + 1)[1:]
        boxes = np.empty((len(classes), 3, 2), np.int64)
        # Of a piece that lies in the rim alone, the box is empty.
        boxes[..., 0], boxes[..., 1] = np.iinfo(np.int64).max, 0
        start = (region.z, region.y, region.x)
        for number, box in enumerate(ndimage.find_objects(local, len(classes))):
            if box is not None:
                boxes[number] = [
                    (part.start + first, part.stop + first)
                    for part, first in zip(box, start, strict=True)
                ]
        self._classes.append(classes)
        self._voxels.append(counts)
        self._boxes.append(boxes)

    def joined(self, min_voxels: int, fill_holes: int) -> Components:
        """Return the components that all pieces together make."""
        classes = np.concatenate(self._classes)
        root = _roots(self._same, len(classes))
        voxels = _summed(root, np.concatenate(self._voxels))
        boxes = np.concatenate(self._boxes)
        low, high = np.full((len(classes), 3), np.iinfo(np.int64).max), np.zeros_like(boxes[..., 1])
        np.minimum.at(low, root, boxes[..., 0])
        np.maximum.at(high, root, boxes[..., 1])
        if self._with_holes:
            inside = (low > 0).all(axis=1) & (high < self._labels.shape).all(axis=1)
            holes = inside & (classes == 0) & (voxels <= fill_holes)
            root = _filled(root, holes, self._touching)
            voxels = _summed(root, voxels)
        kept = (voxels >= max(1, min_voxels)) & (classes > 0) & (root == np.arange(len(classes)))
        box = np.stack([low, high], axis=-1)
        first = np.flatnonzero(kept)
        first = first[np.lexsort((*high[first].T, *low[first].T[::-1]))]
        number = np.zeros(len(classes), np.uint32)
        number[first] = np.arange(1, len(first) + 1)
        return Components(
            of=number[root],
            classes=np.concatenate([classes[:1], classes[first]]),
            voxels=np.concatenate([[0], voxels[first]]),
            boxes=np.concatenate([np.zeros((1, 3, 2), np.int64), box[first]]),
        )


def _roots(same: Sequence[_Pairs], count: int) -> npt.NDArray[np.int64]:
    """Return the lowest number of those that are one, of each of the numbers 0 to `count` - 1."""
    pairs = np.concatenate([np.empty((0, 2), np.uint32), *same])
    graph = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    _, group = sparse.csgraph.connected_components(graph, directed=False)
    _, first = np.unique(group, return_index=True)
    roots: npt.NDArray[np.int64] = first[group]
    return roots


def _summed(root: npt.NDArray[np.int64], voxels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    total = np.zeros(len(root), np.int64)
    np.add.at(total, root, voxels)
    return total


def _pairs(before: npt.NDArray[np.uint32], after: npt.NDArray[np.uint32]) -> _Pairs:
    """Return the different pairs of numbers above 0 at the same places, shape (P, 2)."""
    both = before.astype(np.uint64) << np.uint64(32) | after
    # Neighbours mostly hold the same pair: without them there is little to sort.
    flat = both.ravel()[(before > 0).ravel() & (after > 0).ravel()]
    if not len(flat):
        return np.empty((0, 2), np.uint32)
    runs = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    keys = np.unique(flat[runs])
    return np.stack([keys >> np.uint64(32), keys & np.uint64(_MOST)], axis=1).astype(np.uint32)


def _contacts(values: npt.NDArray[Any], numbers: npt.NDArray[np.uint32]) -> _Pairs:
    """Return which pieces of background share a face with which others, shape (P, 2)."""
    empty = values == 0
    found = []
    for axis in range(3):
        here, there = np.moveaxis(numbers, axis, 0)[:-1], np.moveaxis(numbers, axis, 0)[1:]
        hole = np.moveaxis(empty, axis, 0)
        edge = hole[:-1] != hole[1:]
        a, b, first = here[edge], there[edge], hole[:-1][edge]
        found.append(_pairs(np.where(first, a, b), np.where(first, b, a)))
    return np.concatenate(found)


def _filled(
    root: npt.NDArray[np.int64], holes: npt.NDArray[np.bool_], touching: Sequence[_Pairs]
) -> npt.NDArray[np.int64]:
    """Return the roots after those holes that touch one component alone were put into it."""
    contacts = np.unique(root[np.concatenate(touching)], axis=0)
    found, first, times = np.unique(contacts[:, 0], return_index=True, return_counts=True)
    closed = (times == 1) & holes[found]
    target = np.arange(len(root))
    target[found[closed]] = contacts[first[closed], 1]
    filled: npt.NDArray[np.int64] = target[root]
    return filled
