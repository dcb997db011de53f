"""Whole volumes segmented by a trained version: block by block, resumable, without seams.

A block is cut out with as much around it as the network looks at, at multiples of its stride. So
every pixel gets the logits of its whole slice, whatever the blocks, and nothing has to be blended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from biosegment.disk import explain_full_disk
from biosegment.errors import SegmentationExistsError
from biosegment.geometry import Roi
from biosegment.levels import UNCERTAINTY
from biosegment.ome_zarr import SHARD_PX
from biosegment.progress import Progress
from biosegment.store import VolumeStore
from biosegment.unfinished_labels import UnfinishedLabels, write_blocks
from ml_backend.model_registry import ModelRegistry
from ml_backend.predictor import Predictor
from ml_backend.strategies.measures import entropy

PATCH_PX: Final = 2048
"""Rows and columns that are predicted at a time, without what is cut out around them."""
Blocks: TypeAlias = dict[str, NDArray[np.uint8]]
"""Labels and maps of a region, shape (1, H, W) each, by their name."""
_FLIPS: Final = (slice(None), slice(None, None, -1))


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
    ModelNotFoundError, ModelDamagedError
        If the model cannot be loaded.
    """

    def __init__(self, store: VolumeStore, registry: ModelRegistry, plan: SegmentationPlan) -> None:
        self.store = store
        self.plan = plan
        network, self.card = registry.load(plan.project_id, plan.version)
        self._stride, self._reach = network.stride, network.reach_px
        self._predictor = Predictor(network)
        self.units = tuple(_units(store.shape))
        """Regions that are written at once: the part of a slice that is one file of the store."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the values 1, 2, … mean."""
        return tuple(self.card.class_names[1:])

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that are made."""
        probabilities = self.class_names if self.plan.probabilities else ()
        return (*([UNCERTAINTY] if self.plan.uncertainty else []), *map(_map_name, probabilities))

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
        units = len(self.units)
        return UnfinishedLabels.begin(self.store, name, self.class_names, plan, units, self.maps)

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
            Told the units done and in all.
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
        total = len(self.units)
        done = total - len(missing)
        progress(done, total)
        with explain_full_disk(self.store.path):
            for unit, blocks in self.blocks(missing):
                write_blocks(self.store, labels.name, self.units[unit], blocks)
                labels.mark(unit)
                done += 1
                progress(done, total)
                if done < total and pause():
                    return False
            labels.finish()
        return True

    def blocks(self, units: Sequence[int]) -> Iterator[tuple[int, Blocks]]:
        """Yield the labels and maps of units, by their number, in order."""
        patches = [(unit, patch) for unit in units for patch in self._patches(self.units[unit])]
        windows = (self._window(patch) for _, patch in patches)
        probs = self._predictor.probabilities(self._images(windows))
        found: Blocks = {}
        for place, (unit, patch) in enumerate(patches):
            roi = self.units[unit]
            if not found:
                found = {name: np.empty(roi.shape, np.uint8) for name in ("labels", *self.maps)}
            y, x = patch.y - roi.y, patch.x - roi.x
            inside = np.s_[0, y : y + patch.height, x : x + patch.width]
            for name, block in self._of_patch(patch, probs).items():
                found[name][inside] = block
            if place + 1 == len(patches) or patches[place + 1][0] != unit:
                yield unit, found
                found = {}

    def _of_patch(self, patch: Roi, probs: Iterator[NDArray[np.float32]]) -> Mapping[str, Any]:
        """Return labels and maps of a patch, (H, W), from the next probabilities."""
        window = self._window(patch)
        if self.plan.flips:
            # In the order of `_images`.
            back = [
                each[:, rows, columns]
                for each, (rows, columns) in zip(islice(probs, 4), _flips(), strict=True)
            ]
            mean = np.asarray(np.mean(back, axis=0, dtype=np.float32))
        else:
            mean = next(probs)
        y, x = patch.y - window.y, patch.x - window.x
        inner = mean[:, y : y + patch.height, x : x + patch.width]
        found = {"labels": inner.argmax(axis=0)}
        if self.plan.uncertainty:
            found[UNCERTAINTY] = np.rint(255 * entropy(inner))
        if self.plan.probabilities:
            for name, each in zip(self.class_names, inner[1:], strict=True):
                found[_map_name(name)] = np.rint(np.float32(255) * each)
        return found

    def _images(self, windows: Iterator[Roi]) -> Iterator[NDArray[np.float32]]:
        """Yield the images of windows, and their flips; the next is read while one is predicted."""
        with ThreadPoolExecutor(1) as pool:
            waiting: Future[NDArray[np.float32]] | None = None
            for window in windows:
                following = pool.submit(self._image, window)
                if waiting is not None:
                    yield from self._flipped(waiting.result())
                waiting = following
            if waiting is not None:
                yield from self._flipped(waiting.result())

    def _image(self, window: Roi) -> NDArray[np.float32]:
        """Return the image of a window, with sides that the network takes as they are."""
        image = self.store.read_unit(window)[0]
        # Padded here, before it is flipped: what is pooled together stays together.
        missing = [(0, -length % self._stride) for length in image.shape]
        return np.pad(image, missing, mode="reflect")

    def _flipped(self, image: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if not self.plan.flips:
            yield image
            return
        for rows, columns in _flips():
            yield np.ascontiguousarray(image[rows, columns])

    def _patches(self, unit: Roi) -> Iterator[Roi]:
        size = self.plan.patch_px
        for y in range(unit.y, unit.y + unit.height, size):
            for x in range(unit.x, unit.x + unit.width, size):
                height = min(size, unit.y + unit.height - y)
                yield Roi(unit.z, y, x, 1, height, min(size, unit.x + unit.width - x))

    def _window(self, patch: Roi) -> Roi:
        """Return a patch with what the network looks at around it, as far as the volume goes."""
        top, left = max(0, patch.y - self._reach), max(0, patch.x - self._reach)
        bottom = min(self.store.shape[1], patch.y + patch.height + self._reach)
        right = min(self.store.shape[2], patch.x + patch.width + self._reach)
        return Roi(patch.z, top, left, 1, bottom - top, right - left)


def labels_name(plan: SegmentationPlan) -> str:
    """Return what the labels of a plan are called if nobody gives them a name."""
    return f"project{plan.project_id}-{plan.version}{'-flips' if plan.flips else ''}"


def _units(shape: Sequence[int]) -> Iterator[Roi]:
    depth, height, width = shape
    for z in range(depth):
        for y in range(0, height, SHARD_PX):
            for x in range(0, width, SHARD_PX):
                yield Roi(z, y, x, 1, min(SHARD_PX, height - y), min(SHARD_PX, width - x))


def _flips() -> Iterator[tuple[slice, slice]]:
    for rows in _FLIPS:
        for columns in _FLIPS:
            yield rows, columns


def _map_name(class_name: str) -> str:
    """Return what the map of a class is called, without characters that paths do not take."""
    return "probability-" + "".join(c if c.isalnum() else "-" for c in class_name)
