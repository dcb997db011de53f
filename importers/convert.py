"""Volume files into the volume store: slice by slice, all or nothing, and only once.

A volume is made in a folder of its own and moved to its place when it is whole. A process that is
killed or interrupted leaves that folder, and the same import goes on there.
"""

import fcntl
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from biosegment.disk import explain_full_disk
from biosegment.errors import LabelsMismatchError, LinkError, VolumeExistsError, VolumeNotFoundError
from biosegment.geometry import Roi, VoxelSize
from biosegment.ome_zarr import SHARD_PX
from biosegment.progress import Progress, ignore
from biosegment.store import VolumeStore, volume_path
from importers.base import Choice, VolumeInfo, VolumeReader, describe_shape
from importers.chunk_store import public_address
from importers.detect import open_volume
from importers.preprocessing.base import Step
from importers.preprocessing.parse import step_text
from importers.preprocessing.reader import Preprocessed
from importers.window import intensity_window

_LARGE_SLICE_BYTES: Final = 2**28
_TOGETHER_BYTES: Final = 2**27


def import_volume(
    source: Path | str,
    data_root: Path,
    name: str,
    progress: Progress = ignore,
    *,
    choice: Choice = Choice(),  # noqa: B008 (frozen)
    voxel_size: VoxelSize | None = None,
    link: bool = False,
    steps: Sequence[Step] = (),
) -> VolumeStore:
    """Copy a volume file or folder into the data root and return it.

    Two slices are in memory at a time, or bands of them where they are large. The volume appears
    under its name when it is complete, with its coarser levels. An import that was interrupted is
    taken up where it stopped, one that failed leaves nothing, and the same source again is found,
    not copied.

    Parameters
    ----------
    source
        A file, folder or address that a reader knows.
    data_root
        The data root; made if need be.
    name
        What the volume is called there.
    progress
        Told the blocks done and in all.
    choice
        Which volume of those in the file.
    voxel_size
        What counts instead of what the file tells. A volume that was imported before is corrected.
    link
        Do not copy: use the source where it is, as long as it stays there.
    steps
        Preprocessing, in its order. The same source with other steps is another volume.

    Raises
    ------
    SourceNotFoundError, UnsupportedFormatError, UnreadableFileError
        As :func:`importers.detect.open_volume`.
    ChoiceError
        If there is more than one volume to choose from.
    LinkError
        If the source cannot be used in place, or steps are to be applied to it.
    VoxelSizeError
        If the voxel size that counts is no voxel of a microscope.
    VolumeNameError
        If `name` cannot name a volume.
    VolumeExistsError
        If another source was imported under this name.
    SettingsError
        If a step cannot be applied to this volume.
    DiskFullError
        If the disk is too small.
    """
    final = volume_path(data_root, name)
    if link and steps:
        raise LinkError(str(source), "what is preprocessed has to be a copy")
    with open_volume(source, choice) as reader, explain_full_disk(data_root):
        reader.check_chosen()
        recorded_size = voxel_size or reader.info.voxel_size
        volume = Preprocessed(reader, steps, recorded_size) if steps else reader
        size = volume.info.voxel_size if steps else recorded_size
        origin = _origin(reader, steps)
        with _alone(final) as partial:
            if final.exists():
                store = _existing(data_root, name, origin)
                if voxel_size and size and size != store.voxel_size:
                    store.set_voxel_size(size)
                return store
            if recorded_size:
                recorded_size.check_plausible(f"in {origin['name']}")
            if link:
                shutil.rmtree(partial, ignore_errors=True)
                store = VolumeStore.create_linked(partial, reader.link(), size)
            else:
                store = _resumed(partial, origin, size) or VolumeStore.create(
                    partial, volume.info.shape, volume.info.dtype, size
                )
                _fill(store, volume, origin, progress)
            store.finish(intensity_window(store.image), origin)
            partial.rename(final)
    return VolumeStore.open(data_root, name)


def import_labels(
    source: Path | str,
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
        A file, folder or address that a reader knows, of the volume's shape.
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
        check_shape(reader, store.name, store.shape)
        origin = _origin(reader)
        if _has_labels(store, name, class_names, origin):
            return
        store.create_labels(name, class_names)
        for roi in _each_slice(store.shape, progress):
            values = reader.read_labels(roi)
            classes = values > 0 if len(class_names) == 1 else values
            _check_values(source, classes, class_names)
            store.write_labels(name, roi, classes.astype(np.uint8))
        store.finish_labels(name, origin)


def check_shape(reader: VolumeReader, volume: str, shape: Sequence[int], remedy: str = "") -> None:
    """Raise LabelsMismatchError unless labels or a mask have the shape of what they belong to.

    Parameters
    ----------
    reader
        Of the labels.
    volume
        Name of their volume.
    shape
        Extent (z, y, x) in voxels of the volume, or of its region that they lie on.
    remedy
        What to do about labels that are smaller.
    """
    if reader.info.shape != tuple(shape):
        reason = (
            f"it is {describe_shape(reader.info.shape)} voxels, the volume {volume!r} is "
            f"{describe_shape(shape)} (z, y, x)"
        )
        smaller = all(np.less_equal(reader.info.shape, shape))
        raise LabelsMismatchError(str(reader.path), reason + remedy * smaller)


@contextmanager
def _alone(final: Path) -> Iterator[Path]:
    """Give a place to make the volume in, to one process at a time.

    Another process that imports the same name waits. What a killed or interrupted one left is
    there; what fails is swept.
    """
    folder = final.parent / ".importing"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / final.name
    with (folder / f"{final.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield partial
        except Exception:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _resumed(
    partial: Path, origin: Mapping[str, Any], voxel_size: VoxelSize | None
) -> VolumeStore | None:
    """Return what an interrupted import of the same source made; sweep that of another."""
    try:
        store = VolumeStore.resume(partial)
    except VolumeNotFoundError:
        store = None
    # The levels depend on the voxel size.
    if store and (store.marked[1], store.voxel_size) == (origin, voxel_size):
        return store
    shutil.rmtree(partial, ignore_errors=True)
    return None


def _origin(reader: VolumeReader, steps: Sequence[Step] = ()) -> Mapping[str, Any]:
    """Return what is kept of a source: which volume of which file, and what that file told.

    What was preprocessed is no copy of its source, so where that lies is kept, too.
    """
    path = reader.path
    place = public_address(path) if isinstance(path, str) else os.path.abspath(path)
    preprocessing = {
        "path": place,
        "preprocess": [step_text(step) for step in steps],
    }
    return {
        "name": Path(place).name,
        "fingerprint": reader.fingerprint(),
        "dataset": reader.info.dataset,
        "channel": reader.choice.channel or 0,
        "time": reader.choice.time or 0,
        "metadata": dict(reader.info.metadata),
        "notices": list(reader.info.notices),
        **(preprocessing if steps else {}),
    }


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two origins are the same volume."""
    which = ("fingerprint", "dataset", "channel", "time", "preprocess")
    return all((one.get(key) or 0) == (other.get(key) or 0) for key in which)


def _existing(data_root: Path, name: str, origin: Mapping[str, Any]) -> VolumeStore:
    try:
        store = VolumeStore.open(data_root, name)
    except VolumeNotFoundError as exc:
        raise VolumeExistsError(name, "its folder is not a complete volume") from exc
    if not _same(store.source, origin):
        detail = f"{store.source['name']}, {describe_shape(store.shape)} voxels"
        steps = store.source.get("preprocess", [])
        if steps != origin.get("preprocess", []):
            detail += f", {', '.join(steps) or 'not preprocessed'}"
        raise VolumeExistsError(name, detail)
    return store


def _has_labels(
    store: VolumeStore, name: str, class_names: Sequence[str], origin: Mapping[str, Any]
) -> bool:
    return (
        name in store.label_names
        and store.class_names(name) == tuple(class_names)
        and _same(store.labels_source(name), origin)
    )


def _fill(
    store: VolumeStore,
    volume: VolumeReader | Preprocessed,
    origin: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Write what is not written yet: the full resolution, then the coarser levels."""
    blocks, coarser = list(_blocks(volume.info)), store.pyramid_steps()
    total = len(blocks) + len(coarser)
    done = store.marked[0]
    progress(done, total)
    for roi, voxels in _read_ahead(volume, blocks[done:]):
        store.write(roi, voxels)
        done += 1
        store.mark(done, origin)
        progress(done, total)
    for step in coarser[done - len(blocks) :]:
        store.build_pyramid(*step)
        done += 1
        store.mark(done, origin)
        progress(done, total)


def _blocks(info: VolumeInfo) -> Iterator[Roi]:
    """Yield what is read and written at once: slices, or whole shards of very large ones.

    Where blocks of the source reach over several slices, these are read together as far as memory
    goes, so that a block is not decoded anew for each.
    """
    depth, height, width = info.shape
    slice_bytes = height * width * info.dtype.itemsize
    slices, rows = 1, height
    if info.chunks is not None:
        slices = max(1, min(info.chunks[0], _TOGETHER_BYTES // slice_bytes))
        rows = SHARD_PX if slice_bytes > _LARGE_SLICE_BYTES else height
    for z in range(0, depth, slices):
        for y in range(0, height, rows):
            yield Roi(z, y, 0, min(slices, depth - z), min(rows, height - y), width)


def _read_ahead(
    volume: VolumeReader | Preprocessed, blocks: Sequence[Roi]
) -> Iterator[tuple[Roi, npt.NDArray[Any]]]:
    """Yield each block with its voxels, while the next one is being read."""
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(volume.read, roi) for roi in blocks[:1])
        for roi, following in zip_longest(blocks, blocks[1:]):
            voxels = coming.popleft().result()
            if following is not None:
                coming.append(thread.submit(volume.read, following))
            yield roi, voxels


def _each_slice(shape: tuple[int, int, int], progress: Progress) -> Iterator[Roi]:
    progress(0, shape[0])
    for z in range(shape[0]):
        yield Roi.slice_of(shape, z)
        progress(z + 1, shape[0])


def _check_values(
    source: Path | str, classes: npt.NDArray[Any], class_names: Sequence[str]
) -> None:
    low, high = classes.min(), classes.max()
    if low < 0 or high > len(class_names):
        reason = f"it holds the value {low if low < 0 else high}, and {len(class_names)} classes"
        raise LabelsMismatchError(str(source), f"{reason} were named")
