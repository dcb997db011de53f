"""A label image that is being made block by block, and goes on after an interruption."""

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TextIO, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import BaseZarrError

from biosegment import ome_zarr, pyramid
from biosegment.errors import LabelsBusyError
from biosegment.geometry import Roi
from biosegment.levels import MAPS
from biosegment.store import VolumeStore, check_name


class UnfinishedLabels:
    """A label image of a volume, its maps, and which of its units of work are done.

    Which are, stands in a file of one byte each beside the volume; losing it loses only time. One
    process at a time holds it, until it is closed or leaves it as a context manager.
    """

    def __init__(self, store: VolumeStore, name: str, lock: TextIO) -> None:
        self.store = store
        self.name = name
        self._lock = lock
        self._group = zarr.open_group(_folder(store, name), mode="r+")
        self._done_path = _beside(store, name, "done")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes go on with it."""
        self._lock.close()

    @classmethod
    def begin(
        cls,
        store: VolumeStore,
        name: str,
        class_names: Sequence[str],
        plan: Mapping[str, Any],
        units: int,
        maps: Sequence[str] = (),
        scratch: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> Self:
        """Return what was begun by this plan, or begin anew in place of any other.

        Parameters
        ----------
        store
            The volume.
        name
            Of the label image, by the rule for volumes.
        class_names
            What the values 1, 2, … mean.
        plan
            JSON that tells all that the result depends on.
        units
            How many units of work there are.
        maps
            Names of 8-bit images of the same shape that are made with it.
        scratch
            Names of 8-bit arrays (channel, z, y, x) that are kept beside the volume until it is
            finished, and what one file of each holds: all channels of a box.

        Raises
        ------
        VolumeNameError
            If `name` breaks the rule.
        LabelsBusyError
            If another process is making them.
        """
        check_name(name)
        lock = locked(store, name)
        try:
            if not _was_begun(store, name, plan, units, bool(scratch)):
                store.create_labels(name, class_names)
                group = zarr.open_group(_folder(store, name), mode="r+")
                for each in maps:
                    image = group.create_group(f"{MAPS}/{each}")
                    ome_zarr.create_image(image, each, store.shape, np.uint8, store.voxel_size)
                shutil.rmtree(_scratch(store, name), ignore_errors=True)
                if scratch:
                    kept = zarr.open_group(_scratch(store, name), mode="w-", zarr_format=3)
                    for each, held in scratch.items():
                        ome_zarr.create_scratch(kept, each, (held[0], *store.shape), held)
                _beside(store, name, "done").write_bytes(bytes(units))
                group.attrs["biosegment"] = {**_ours(group), "source": dict(plan)}
            return cls(store, name, lock)
        except BaseException:
            lock.close()
            raise

    def missing(self) -> list[int]:
        """Return the numbers of the units that are not done."""
        done = np.fromfile(self._done_path, np.uint8)
        return [int(unit) for unit in np.flatnonzero(done == 0)]

    def mark(self, unit: int) -> None:
        """Note that all of a unit is written."""
        with self._done_path.open("r+b") as file:
            file.seek(unit)
            file.write(b"\1")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Make the coarser levels, and declare the label image complete; scratch is removed."""
        shutil.rmtree(_scratch(self.store, self.name), ignore_errors=True)
        maps = cast("zarr.Group", self._group[MAPS]).group_keys() if MAPS in self._group else ()
        for each in maps:
            levels = ome_zarr.image_levels(self._group, f"{MAPS}/{each}")
            for number, z in pyramid.steps(levels):
                pyramid.build(levels, number, z, labels=False)
        self.store.finish_labels(self.name, _ours(self._group)["source"])
        self._done_path.unlink()


def write_blocks(
    store: VolumeStore, name: str, roi: Roi, blocks: Mapping[str, npt.NDArray[np.uint8]]
) -> None:
    """Write a region of an unfinished label image, of its maps, or of its scratch arrays.

    Any number of processes may, each another region that is one file of the store.

    Parameters
    ----------
    store
        The volume.
    name
        Of the label image.
    roi : Roi
    blocks : mapping of str to ndarray of uint8, shape ``roi.shape`` (z, y, x)
        The labels, under the key ``labels``, and the maps under their names; scratch arrays under
        theirs, with their channels as axis 0.

    Raises
    ------
    RegionError
        If the region leaves the volume.
    """
    roi.check_within(store.shape)
    for which, block in blocks.items():
        if which == "labels":
            store.write_labels(name, roi, block)
        elif (_scratch(store, name) / which).exists():
            _scratch_array(store, name, which)[(slice(None), *roi.slices)] = block
        else:
            group = zarr.open_group(_folder(store, name), mode="r+")
            ome_zarr.image_array(group, f"{MAPS}/{which}")[roi.slices] = block


def read_scratch(store: VolumeStore, name: str, which: str, roi: Roi) -> npt.NDArray[np.uint8]:
    """Return a region of a scratch array of an unfinished label image.

    Returns
    -------
    ndarray of uint8, shape (channel, z, y, x)
    """
    found = _scratch_array(store, name, which)[(slice(None), *roi.slices)]
    return cast("npt.NDArray[np.uint8]", found)


def _scratch_array(store: VolumeStore, name: str, which: str) -> zarr.Array[Any]:
    return ome_zarr.open_array(zarr.open_group(_scratch(store, name), mode="r+"), which)


def _scratch(store: VolumeStore, name: str) -> Path:
    return _beside(store, name, "scratch")


def _folder(store: VolumeStore, name: str) -> Path:
    return store.path / "labels" / name


def _beside(store: VolumeStore, name: str, ending: str) -> Path:
    return store.path.parent / ".segmenting" / f"{store.name}.{name}.{ending}"


def locked(store: VolumeStore, name: str) -> TextIO:
    """Return an open file whose lock keeps other makers of a label image away, until it is closed.

    The lock ends with this process. The file stays: whoever waits for one that is removed holds
    nothing.

    Raises
    ------
    LabelsBusyError
        If another process has it.
    """
    path = _beside(store, name, "lock")
    path.parent.mkdir(exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise LabelsBusyError(name, store.name) from exc
    return file


def _ours(group: zarr.Group) -> dict[str, Any]:
    return cast("dict[str, Any]", group.attrs["biosegment"])


def _was_begun(
    store: VolumeStore, name: str, plan: Mapping[str, Any], units: int, needs_scratch: bool
) -> bool:
    """Return whether an unfinished label image of this plan is there; sweep what it left."""
    done = _beside(store, name, "done")
    if name in store.label_names or not done.exists() or done.stat().st_size != units:
        return False
    if needs_scratch and not _scratch(store, name).exists() and 0 in done.read_bytes():
        # Somebody removed it. (Where all units are done, it went in `finish`.)
        return False
    try:
        group = zarr.open_group(_folder(store, name), mode="r")
        same = _ours(group).get("source") == plan
    except (BaseZarrError, FileNotFoundError, KeyError):
        return False
    if same:
        for folder in (_folder(store, name), _scratch(store, name)):
            for partial in folder.rglob("*.partial"):
                # What a killed process was writing.
                partial.unlink()
    return same
