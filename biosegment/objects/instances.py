"""A label image of single objects, made of one of classes: ``biosegment objects``.

Three passes over the volume: components are found block by block; those that are to be split are
cut out one after the other; the numbers of the objects are written. What lies between is kept in a
folder beside the volume, which goes at the end.
"""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr

from biosegment import ome_zarr
from biosegment.disk import explain_full_disk
from biosegment.errors import ObjectsError, SegmentationExistsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import levels, map_levels, probability_map
from biosegment.objects.components import Components, blocks, find_components
from biosegment.objects.masks import ObjectMask, Read, box_around, object_mask, sampled
from biosegment.objects.splitting import distance, split
from biosegment.progress import Report
from biosegment.store import VolumeStore, check_name
from biosegment.unfinished_labels import locked

UNKNOWN_SIZE: Final = (
    "the voxel size of {} is not known, give it by `biosegment import --voxel-size`"
)
_CLASSES: Final = "object_classes"


@dataclass(frozen=True, slots=True)
class ObjectsPlan:
    """Of which labels objects are made, and how."""

    labels: str
    """Name of a label image of classes."""
    connectivity: int = 26
    """6, 18 or 26 neighbours of a voxel touch it."""
    min_voxels: int = 1
    """Smaller objects, and parts of objects, are none."""
    fill_holes: int = 0
    """Holes of at most that many voxels are filled."""
    split_distance: float | None = None
    """By how many nanometres a neck has to be narrower in radius than what it joins."""
    split_probability: float | None = None
    """By how much lower, of 1, the probability has to be where objects touch."""


def make_objects(
    store: VolumeStore, plan: ObjectsPlan, name: str, report: Report, *, overwrite: bool = False
) -> int:
    """Make a label image with a number for each object of a label image of classes.

    Parameters
    ----------
    store
        The volume.
    plan
        Which labels, and how.
    name
        Of the label image to make.
    report
        Told of progress.
    overwrite
        Replace a finished one of that name.

    Returns
    -------
    int
        How many objects there are: their numbers go from 1 to it.

    Raises
    ------
    LabelsNotFoundError
        If there is no such label image.
    ObjectsError
        If it has objects instead of classes, or lacks what splitting needs.
    SegmentationExistsError
        If there is one of that name.
    LabelsBusyError
        If another process is making it.
    VolumeNameError
        If the name cannot name one.
    DiskFullError
        If the disk is too small. Nothing is left then.
    """
    check_name(name)
    labels = levels(store, plan.labels)[0]
    if is_objects(store, plan.labels):
        raise ObjectsError(f"{plan.labels} are objects already, give --labels of classes")
    if labels.dtype.itemsize > 1:
        raise ObjectsError(f"{plan.labels} has more values than there can be classes, 255")
    _check_split(store, plan)
    if name == plan.labels or (name in store.label_names and not overwrite):
        raise SegmentationExistsError(name, store.name)
    with locked(store, name), _scratch(store, name) as scratch, explain_full_disk(store.path):
        pieces = _pieces(scratch, store)
        components = find_components(
            labels,
            pieces,
            connectivity=plan.connectivity,
            min_voxels=plan.min_voxels,
            fill_holes=plan.fill_holes,
            progress=lambda done, total: report("finding objects", done, total),
        )
        objects = _Objects(store, plan, components, pieces, scratch)
        objects.split_all(report)
        objects.write(name, report)
    return len(objects.classes) - 1


def is_objects(store: VolumeStore, name: str) -> bool:
    """Return whether a finished label image has a number for each object, not for each class."""
    return _CLASSES in _group(store, name)


def object_classes(store: VolumeStore, name: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return the classes of the objects of a label image.

    Returns
    -------
    classes : ndarray of uint8, shape (objects + 1,)
        The class of each number; 0 for 0, which is no object.
    names : tuple of str
        What the classes 1, 2, … mean.
    """
    group = _group(store, name)
    names = store.labels_source(name)["class_names"]
    return np.asarray(cast("zarr.Array[Any]", group[_CLASSES])[:]), tuple(names)


class _Objects:
    """The objects that components are made of, from the first pass to the last."""

    def __init__(
        self,
        store: VolumeStore,
        plan: ObjectsPlan,
        components: Components,
        pieces: zarr.Array[Any],
        scratch: Path,
    ) -> None:
        self._store = store
        self._plan = plan
        self._components = components
        self._pieces = pieces
        self._scratch = scratch
        self._counts = np.ones(len(components) + 1, np.int64)
        """Parts of each component."""
        self._counts[0] = 0
        self._split: dict[int, ObjectMask] = {}
        """Where those that have several are; their masks are on disk instead."""

    @property
    def classes(self) -> npt.NDArray[np.uint8]:
        """The class of each object, shape (objects + 1,)."""
        return np.concatenate([[np.uint8(0)], np.repeat(self._components.classes, self._counts)])

    def split_all(self, report: Report) -> None:
        """Split what touches, if it is asked for."""
        if self._plan.split_distance is None and self._plan.split_probability is None:
            return
        for number in range(1, len(self._components) + 1):
            box = box_around(self._components.boxes[number], self._store.shape)
            found = object_mask(self._reader(number), box, self._store.voxel_size)
            smallest = max(1, self._plan.min_voxels // math.prod(found.strides))
            parts, count = split(found.mask, *self._height(number, found), smallest)
            if count > 1:
                self._counts[number] = count
                self._split[number] = ObjectMask(box, found.strides, found.mask[:0])
                np.save(self._scratch / f"{number}.npy", parts)
            report("splitting objects", number, len(self._components))

    def write(self, name: str, report: Report) -> None:
        """Write the label image, and list it."""
        first = np.cumsum(self._counts) - self._counts + 1
        first[0] = 0
        dtype = np.uint16 if len(self.classes) <= 2**16 else np.uint32
        store = self._store
        with _unlisted(store, name):
            store.create_labels(name, (), dtype)
            regions = list(blocks(store.shape))
            for done, region in enumerate(regions, start=1):
                numbers = self._components.of[np.asarray(self._pieces[region.slices])]
                block = first.astype(dtype)[numbers]
                for number in self._split_in(region):
                    self._put_parts(number, region, numbers, block, int(first[number]))
                store.write_labels(name, region, block)
                report("writing objects", done, len(regions))
            group = zarr.open_group(store.path / "labels" / name, mode="r+")
            group.create_array(_CLASSES, data=self.classes)
            names = store.class_names(self._plan.labels)
            store.finish_labels(name, asdict(self._plan) | {"class_names": list(names)})

    def _reader(self, number: int) -> Read:
        of, pieces = self._components.of, self._pieces

        def is_object(region: Roi) -> npt.NDArray[np.bool_]:
            found: npt.NDArray[np.bool_] = of[np.asarray(pieces[region.slices])] == number
            return found

        return is_object

    def _height(self, number: int, found: ObjectMask) -> tuple[npt.NDArray[Any], float]:
        """Return what to split an object by, and how deep its passes have to be."""
        if self._plan.split_distance is not None:
            edges = cast("VoxelSize", self._store.voxel_size).zyx
            z, y, x = (step * edge for step, edge in zip(found.strides, edges, strict=True))
            return distance(found.mask, (z, y, x)), self._plan.split_distance
        class_names = self._store.class_names(self._plan.labels)
        which = probability_map(class_names[self._components.classes[number] - 1])
        level = map_levels(self._store, self._plan.labels, which)[0]
        depth = cast("float", self._plan.split_probability)
        return sampled(level.read, found) / np.float32(255), depth

    def _split_in(self, region: Roi) -> Iterator[int]:
        """Yield the components with parts that may lie in a region."""
        for number, found in self._split.items():
            pairs = zip(found.box.slices, region.slices, strict=True)
            if all(a.start < b.stop and b.start < a.stop for a, b in pairs):
                yield number

    def _put_parts(
        self,
        number: int,
        region: Roi,
        numbers: npt.NDArray[np.uint32],
        block: npt.NDArray[Any],
        first: int,
    ) -> None:
        """Put the parts of a component in a block of a region, its first one as `first`."""
        found = self._split[number]
        here, there = [], []
        ends = zip(found.box.slices, region.slices, found.strides, strict=True)
        for own, whole, stride in ends:
            inside = np.arange(max(own.start, whole.start), min(own.stop, whole.stop))
            here.append(slice(int(inside[0]) - whole.start, int(inside[-1]) + 1 - whole.start))
            there.append((inside - own.start) // stride)
        parts = np.load(self._scratch / f"{number}.npy", mmap_mode="r")[np.ix_(*there)]
        mask = numbers[tuple(here)] == number
        block[tuple(here)][mask] = first - 1 + parts[mask]


def _check_split(store: VolumeStore, plan: ObjectsPlan) -> None:
    if plan.split_distance is not None and store.voxel_size is None:
        raise ObjectsError(UNKNOWN_SIZE.format(store.name))
    if plan.split_probability is None:
        return
    group = _group(store, plan.labels)
    for class_name in store.class_names(plan.labels):
        if f"maps/{probability_map(class_name)}" not in group:
            raise ObjectsError(
                f"{plan.labels} has no probabilities, make them by `biosegment segment "
                f"{store.name} --probabilities`"
            )


@contextmanager
def _scratch(store: VolumeStore, name: str) -> Iterator[Path]:
    """Lend a folder that is gone afterwards."""
    folder = store.path.parent / ".segmenting" / f"{store.name}.{name}.objects"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pieces(scratch: Path, store: VolumeStore) -> zarr.Array[Any]:
    group = zarr.open_group(scratch / "pieces", mode="w", zarr_format=3)
    ome_zarr.create_image(group, "pieces", store.shape, np.uint32, store.voxel_size)
    return ome_zarr.image_array(group)


@contextmanager
def _unlisted(store: VolumeStore, name: str) -> Iterator[None]:
    """Remove what was begun of a label image where the block fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(store.path / "labels" / name, ignore_errors=True)
        raise


def _group(store: VolumeStore, name: str) -> zarr.Group:
    return zarr.open_group(store.path / "labels" / name, mode="r")
