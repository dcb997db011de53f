"""Whole volumes segmented by a trained version: part by part, resumable, without seams.

Along three axes there are three passes. Those along y and x keep their probabilities in scratch
arrays; the one along z, which is all there is otherwise, takes the mean and makes the labels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, pairwise, product
from math import ceil, prod
from types import EllipsisType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.disk import explain_full_disk
from biosegment.errors import SegmentationExistsError, SettingsError
from biosegment.geometry import Roi
from biosegment.levels import UNCERTAINTY, probability_map
from biosegment.ome_zarr import SHARD_PX
from biosegment.progress import Progress
from biosegment.store import VolumeStore
from biosegment.unfinished_labels import UnfinishedLabels, read_scratch, write_blocks
from ml_backend.model_registry import ModelRegistry
from ml_backend.planes import Planes
from ml_backend.predictor import Predictor
from ml_backend.strategies.measures import entropy

PATCH_PX: Final = 2048
"""Rows and columns that are predicted at a time, without what is cut out around them."""
ISOTROPIC: Final = 1.1
"""How many times as long as the shortest edge of a voxel the longest one may be for three axes."""
_SCRATCH: Final = {1: "along-y", 2: "along-x"}
"""Arrays of the probabilities of foreground classes, 0 to 255, by the axis of their pass."""
_SCRATCH_PX: Final = 2048
"""Rows and columns of the planes of a scratch array that are in one file."""
_SCRATCH_PLANES: Final = 16
"""Planes in a file: a chunk of the store, 256 rows, is decoded once for that many."""


@dataclass(frozen=True, slots=True)
class SegmentationPlan:
    """All that a segmentation depends on: the same plan gives the same bytes."""

    project_id: int
    """Number of the project that the model is of."""
    version: str
    """The model."""
    flips: bool = False
    """Average the probabilities over the four flips of each block."""
    uncertainty: bool = False
    """Make the map of uncertainty."""
    probabilities: bool = False
    """Make a map of the probability of each class but background, 0 to 255."""
    three_axes: bool = False
    """Average the probabilities of planes along z, y and x."""
    patch_px: int = PATCH_PX
    """Rows and columns that are predicted at a time; memory goes with its square."""


class Segmentation:
    """The segmentation of one volume by one plan.

    Parameters
    ----------
    store
        The volume.
    registry
        Has the model.
    plan
        Which model, and how.

    Raises
    ------
    SettingsError
        If the volume does not suit the plan.
    ModelNotFoundError, ModelDamagedError
        If the model cannot be loaded.
    """

    def __init__(self, store: VolumeStore, registry: ModelRegistry, plan: SegmentationPlan) -> None:
        check_axes(store, plan)
        self.store = store
        self.plan = plan
        network, self.card = registry.load(plan.project_id, plan.version)
        predictor = Predictor(network)
        # Along z comes last: that pass makes slices of labels, with what the others found.
        self._passes = tuple(
            Planes(store, network, predictor, axis=axis, patch_px=plan.patch_px, flips=plan.flips)
            for axis in ((1, 2, 0) if plan.three_axes else (0,))
        )
        boxes = [list(_boxes(store.shape, _file_shape(each.axis))) for each in self._passes]
        self.units = tuple(chain.from_iterable(boxes))
        """Regions that are written at once, each a file of the store or of a scratch array."""
        ends = [0, *accumulate(map(len, boxes))]
        self.stages = tuple(range(start, stop) for start, stop in pairwise(ends))
        """Numbers of the units of each pass over the volume. A pass needs those before it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the values 1, 2, … mean."""
        return tuple(self.card.class_names[1:])

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that are made."""
        uncertainty = [UNCERTAINTY] if self.plan.uncertainty else []
        probabilities = self.class_names if self.plan.probabilities else ()
        return (*uncertainty, *map(probability_map, probabilities))

    def begin(self, name: str, *, overwrite: bool = False) -> UnfinishedLabels:
        """Begin the label image, or go on with that which was begun by the same plan.

        Parameters
        ----------
        name
            Of the label image.
        overwrite
            Replace a finished one of that name.

        Raises
        ------
        SegmentationExistsError
            If there is a finished one.
        VolumeNameError
            If the name cannot name one.
        """
        if name in self.store.label_names and not overwrite:
            raise SegmentationExistsError(name, self.store.name)
        plan = asdict(self.plan) | {"weights_sha256": self.card.weights_sha256}
        scratch = {
            _SCRATCH[each.axis]: (len(self.class_names), *_file_shape(each.axis))
            for each in self._passes[:-1]
        }
        return UnfinishedLabels.begin(
            self.store, name, self.class_names, plan, len(self.units), self.maps, scratch
        )

    def run(
        self,
        labels: UnfinishedLabels,
        progress: Progress,
        pause: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Make all units that are missing, then finish.

        Parameters
        ----------
        labels
            From `begin`.
        progress
            Told how much is done and in all, as `progress_of` counts it.
        pause
            Asked after each unit whether to stop there.

        Returns
        -------
        bool
            False if it was stopped.

        Raises
        ------
        DiskFullError
            If the disk is too small. What is done is kept.
        """
        missing = labels.missing()
        tell = self.progress_of(missing, progress)
        with explain_full_disk(self.store.path):
            for unit in self.make(labels.name, missing):
                labels.mark(unit)
                tell(unit)
                if unit != missing[-1] and pause():
                    return False
            labels.finish()
        return True

    def progress_of(self, missing: Sequence[int], progress: Progress) -> Callable[[int], None]:
        """Return what is to be called with each unit that is done.

        It reports in slices or parts of slices that are a file, all passes counted, by the share of
        voxels: units differ in size.
        """
        total = len(self.stages) * len(self.stages[-1])
        voxels = len(self.stages) * prod(self.store.shape)
        left = sum(prod(self.units[unit].shape) for unit in missing)

        def report(done: int) -> None:
            nonlocal left
            left -= done
            progress(total - ceil(total * left / voxels), total)

        report(0)
        return lambda unit: report(prod(self.units[unit].shape))

    def make(self, name: str, units: Sequence[int]) -> Iterator[int]:
        """Write units of the labels `name`, given in order; yield the number of each when done."""
        for planes, stage in zip(self._passes, self.stages, strict=True):
            numbers = [unit for unit in units if unit in stage]
            probs = planes.probabilities(self.units[unit] for unit in numbers)
            for unit in numbers:
                box = self.units[unit]
                blocks: dict[str, NDArray[np.uint8]] = {}
                for part in planes.parts(box):
                    for which, found in self._outcome(name, planes.axis, part, next(probs)):
                        if which not in blocks:
                            blocks[which] = np.empty((*found.shape[:-3], *box.shape), np.uint8)
                        blocks[which][_within(part, box)] = found
                write_blocks(self.store, name, box, blocks)
                yield unit

    def _outcome(
        self, name: str, axis: int, part: Roi, probs: NDArray[np.float32]
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield what is kept of the probabilities (C, z, y, x) of a part, by the name of its array.

        Arrays are of shape (z, y, x), those of scratch (C - 1, z, y, x).
        """
        if axis in _SCRATCH:
            yield _SCRATCH[axis], np.rint(np.float32(255) * probs[1:])
            return
        if self.plan.three_axes:
            probs = self._mean_of_axes(name, part, probs)
        yield "labels", probs.argmax(axis=0)
        if self.plan.uncertainty:
            yield UNCERTAINTY, np.rint(255 * entropy(probs))
        if self.plan.probabilities:
            for class_name, each in zip(self.class_names, probs[1:], strict=True):
                yield probability_map(class_name), np.rint(np.float32(255) * each)

    def _mean_of_axes(
        self, name: str, part: Roi, probs: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the mean of the probabilities along z, (C, z, y, x), and of those kept before."""
        mean = probs.copy()
        for which in _SCRATCH.values():
            others = read_scratch(self.store, name, which, part) / np.float32(255)
            mean[1:] += others
            mean[0] += 1 - others.sum(axis=0)
        return np.maximum(mean / 3, 0)


def labels_name(plan: SegmentationPlan) -> str:
    """Return what the labels of a plan are called if nobody gives them a name."""
    how = ("-3axes" if plan.three_axes else "") + ("-flips" if plan.flips else "")
    return f"project{plan.project_id}-{plan.version}{how}"


def check_axes(store: VolumeStore, plan: SegmentationPlan) -> None:
    """Raise SettingsError if a plan takes three axes, but the voxels are no cubes, about."""
    if not plan.three_axes:
        return
    size = store.voxel_size
    if size is None or max(size.zyx) > ISOTROPIC * min(size.zyx):
        found = f"is {size}" if size else "is not known"
        raise SettingsError(
            "--three-axes",
            f"needs voxels of the same length along z, y and x, but the voxel size of "
            f"{store.name!r} {found}; if that is wrong, the import repeated with --voxel-size "
            "z,y,x and a unit, such as --voxel-size 8,8,8nm, corrects it",
        )


def _file_shape(axis: int) -> tuple[int, int, int]:
    """Return what a file holds of the result of a pass, along z, y and x."""
    if axis not in _SCRATCH:
        return (1, SHARD_PX, SHARD_PX)
    sides = [_SCRATCH_PX] * 3
    sides[axis] = _SCRATCH_PLANES
    return (sides[0], sides[1], sides[2])


def _boxes(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Roi]:
    """Yield the boxes that a volume is divided into, cut off at its end."""
    starts = (range(0, size, side) for size, side in zip(shape, sides, strict=True))
    for corner in product(*starts):
        ends = zip(shape, corner, sides, strict=True)
        yield Roi(*corner, *(min(side, size - start) for size, start, side in ends))


def _within(part: Roi, box: Roi) -> tuple[EllipsisType | slice, ...]:
    """Return the index of a part in an array of the box that holds it, channels or not."""
    starts = (part.z - box.z, part.y - box.y, part.x - box.x)
    sides = zip(starts, part.shape, strict=True)
    return (..., *(slice(start, start + side) for start, side in sides))
