"""Volume files into the volume store: slice by slice, all or nothing, and only once."""

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.disk import explain_full_disk
from biosegment.errors import LabelsMismatchError, VolumeExistsError, VolumeNotFoundError
from biosegment.geometry import Roi
from biosegment.progress import Progress, ignore
from biosegment.store import VolumeStore, volume_path
from importers.base import VolumeReader, describe_shape
from importers.detect import open_volume
from importers.window import WindowSample


def import_volume(
    source: Path, data_root: Path, name: str, progress: Progress = ignore
) -> VolumeStore:
    """Copy a volume file or folder into the data root and return it.

    One slice is in memory at a time. The volume appears under its name when it is complete;
    whatever interrupts the import leaves nothing. The same source again is found, not copied.

    Parameters
    ----------
    source
        A file or folder that a reader knows.
    data_root
        The data root; made if need be.
    name
        What the volume is called there.
    progress
        Told the slices done and in all.

    Raises
    ------
    SourceNotFoundError, UnsupportedFormatError, UnreadableFileError
        As :func:`importers.detect.open_volume`.
    VolumeNameError
        If `name` cannot name a volume.
    VolumeExistsError
        If another source was imported under this name.
    DiskFullError
        If the disk is too small.
    """
    final = volume_path(data_root, name)
    with open_volume(source) as reader, explain_full_disk(data_root):
        reader.check_chosen()
        origin = _origin(reader)
        with _alone(final) as partial:
            if final.exists():
                return _existing(data_root, name, origin)
            store = VolumeStore.create(
                partial, reader.info.shape, reader.info.dtype, reader.info.voxel_size
            )
            window = _copy_slices(reader, store, progress)
            store.finish(window, origin)
            partial.rename(final)
    return VolumeStore.open(data_root, name)


def import_labels(
    source: Path,
    store: VolumeStore,
    name: str,
    class_names: Sequence[str],
    progress: Progress = ignore,
) -> None:
    """Copy a label volume into a volume's label images, replacing one of that name.

    With one class, whatever is above 0 belongs to it, since masks are written as 1 or 255 or in
    between. With more, the values are 0 for background and 1, 2, … for the classes. The same
    source again is found, not copied.

    Parameters
    ----------
    source
        A file or folder that a reader knows, of the volume's shape.
    store
        The volume.
    name
        What the label image is called there.
    class_names
        The classes, without background.
    progress
        Told the slices done and in all.

    Raises
    ------
    SourceNotFoundError, UnsupportedFormatError, UnreadableFileError
        As :func:`importers.detect.open_volume`.
    LabelsMismatchError
        If the shape differs, or a value has no class.
    DiskFullError
        If the disk is too small.
    """
    with open_volume(source) as reader, explain_full_disk(store.path):
        reader.check_chosen()
        _check_shape(reader, store)
        origin = _origin(reader)
        if _has_labels(store, name, class_names, origin):
            return
        store.create_labels(name, class_names)
        for roi in _each_slice(store.shape, progress):
            values = reader.read(roi)
            classes = values > 0 if len(class_names) == 1 else values
            _check_values(source, classes, class_names)
            store.write_labels(name, roi, classes.astype(np.uint8))
        store.finish_labels(name, origin)


@contextmanager
def _alone(final: Path) -> Iterator[Path]:
    """Give an empty place to make the volume in, to one process at a time.

    Another process that imports the same name waits; what a killed one left is swept first, and
    what this one leaves is swept after.
    """
    folder = final.parent / ".importing"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / final.name
    with (folder / f"{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _origin(reader: VolumeReader) -> Mapping[str, str]:
    return {"name": reader.path.name, "fingerprint": reader.fingerprint()}


def _existing(data_root: Path, name: str, origin: Mapping[str, str]) -> VolumeStore:
    try:
        store = VolumeStore.open(data_root, name)
    except VolumeNotFoundError as exc:
        raise VolumeExistsError(name, "its folder is not a complete volume") from exc
    if store.source["fingerprint"] != origin["fingerprint"]:
        detail = f"{store.source['name']}, {describe_shape(store.shape)} voxels"
        raise VolumeExistsError(name, detail)
    return store


def _has_labels(
    store: VolumeStore, name: str, class_names: Sequence[str], origin: Mapping[str, str]
) -> bool:
    return (
        name in store.label_names
        and store.class_names(name) == tuple(class_names)
        and store.labels_source(name).get("fingerprint") == origin["fingerprint"]
    )


def _copy_slices(
    reader: VolumeReader, store: VolumeStore, progress: Progress
) -> tuple[float, float]:
    sample = WindowSample(store.shape)
    for roi in _each_slice(store.shape, progress):
        voxels = reader.read(roi)
        store.write(roi, voxels)
        sample.see(roi.z, voxels[0])
    return sample.window()


def _each_slice(shape: tuple[int, int, int], progress: Progress) -> Iterator[Roi]:
    progress(0, shape[0])
    for z in range(shape[0]):
        yield Roi.slice_of(shape, z)
        progress(z + 1, shape[0])


def _check_shape(reader: VolumeReader, store: VolumeStore) -> None:
    if reader.info.shape != store.shape:
        reason = (
            f"it is {describe_shape(reader.info.shape)} voxels, the volume {store.name!r} is "
            f"{describe_shape(store.shape)} (z, y, x)"
        )
        raise LabelsMismatchError(str(reader.path), reason)


def _check_values(source: Path, classes: npt.NDArray[Any], class_names: Sequence[str]) -> None:
    low, high = classes.min(), classes.max()
    if low < 0 or high > len(class_names):
        reason = f"it holds the value {low if low < 0 else high}, and {len(class_names)} classes"
        raise LabelsMismatchError(str(source), f"{reason} were named")
