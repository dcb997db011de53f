"""N5 containers (.n5, a folder): ``image`` and ``labels``, each with coarser levels s0, s1, ….

Axes are x, y, z, as N5 has them, lengths are nanometres. Blocks are compressed by gzip, which every
reader of N5 knows, and end with the volume: some readers take no longer ones. What programs want to
know of an image stands in its attributes in the ways that they each read: the factors of all
levels, the voxel size, and the largest label value. What labels mean is JSON in ``label_names``,
which is this project's own.

Cannot be stored: colours, and that a voxel size is unknown, which is told by its absence.

References
----------
.. [1] https://github.com/saalfeldlab/n5, its file system specification
.. [2] https://github.com/saalfeldlab/n5-viewer: ``scales`` and ``pixelResolution``
.. [3] https://github.com/saalfeldlab/paintera: ``multiScale``, ``resolution`` and ``maxId``
.. [4] https://openorganelle.janelia.org: ``multiscales`` and ``transform``, which webKnossos reads

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.n5"
>>> N5Writer().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> json.loads((path / "image/s0/attributes.json").read_text())["dimensions"]
[4, 3, 2]
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import z5py

from biosegment.pyramid import coarser, level_factors, level_shape
from exporters.base import Layer, VolumeWriter, writable_dtype
from exporters.blocks import boxes, slabs

_VERSION = "2.0.0"
_ATTRIBUTES = "attributes.json"
_LEVEL = 1
_BLOCK = (32, 128, 128)
# Of a coarser level, made at a time: eight times as much of the finer one is in memory.
_STEP = (32, 512, 512)


class N5Writer(VolumeWriter):
    """Writes N5 containers."""

    IMAGE_SUFFIX = ".n5"
    LABELS_SUFFIX = ".n5"
    TOGETHER = True
    LABELS_DATASET = "labels/s0"
    IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        path.mkdir()
        _put(path, {"n5": _VERSION})
        if image:
            dtype = writable_dtype(image.dtype, self.IMAGE_DTYPES)
            _write_image(path, "image", image, dtype, labels=False)
        if labels:
            dtype = writable_dtype(labels.dtype, self.LABELS_DTYPES)
            _write_image(path, "labels", labels, dtype, labels=True)


def _write_image(
    path: Path, name: str, layer: Layer, dtype: np.dtype[Any] | None, *, labels: bool
) -> None:
    """Write all levels of an image into a container."""
    assert dtype is not None
    factors = level_factors(layer.shape, layer.voxel_size)
    levels = [
        _create(path, f"{name}/s{number}", layer, dtype, level)
        for number, level in enumerate(factors)
    ]
    largest = 0
    for place, block in slabs(layer, *_BLOCK[:2], dtype):
        _fill(levels[0], (*place, slice(0, layer.shape[2])), block)
        largest = max(largest, int(block.max())) if labels else 0
    for fine, coarse in pairwise(levels):
        _reduce(fine, coarse, labels=labels)
    names = json.dumps({str(each.value): each.name for each in layer.classes})
    of_labels = {"maxId": largest, "label_names": names} if labels else {}
    _put(path / name, _image_attributes(layer, factors) | of_labels)


def _create(
    path: Path, name: str, layer: Layer, dtype: np.dtype[Any], factors: Sequence[int]
) -> z5py.Dataset:
    """Return the new dataset of a level, with axes z, y, x."""
    shape = level_shape(layer.shape, factors)
    described = {
        "dimensions": shape[::-1],
        "blockSize": [min(pair) for pair in zip(shape[::-1], _BLOCK[::-1], strict=True)],
        "dataType": str(dtype),
        "compression": {"type": "gzip", "level": _LEVEL},
        "axes": list("xyz"),
    }
    (path / name).mkdir(parents=True)
    # The library does not say if there was no room for them.
    _put(path / name, described | _level_attributes(layer, factors))
    dataset = z5py.File(path, "r+", use_zarr_format=False)[name]
    dataset.n_threads = os.cpu_count() or 1
    return dataset


def _reduce(fine: z5py.Dataset, coarse: z5py.Dataset, *, labels: bool) -> None:
    """Make a level of the one before."""
    deep = 1 if fine.shape[0] == coarse.shape[0] else 2
    for box in boxes(coarse.shape, _STEP):
        ends = zip(box, (deep, 2, 2), fine.shape, strict=True)
        source = tuple(slice(n * at.start, min(n * at.stop, most)) for at, n, most in ends)
        block = np.asarray(fine[source])
        parts = range(0, block.shape[0], deep)
        planes = [coarser(block[z : z + deep], labels=labels) for z in parts]
        _fill(coarse, box, np.stack(planes))


def _fill(dataset: z5py.Dataset, place: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
    try:
        dataset[place] = values
    except RuntimeError as exc:
        # The library does not say why a block cannot be written. In a folder that was made a moment
        # ago, it is for want of room.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from exc


def _image_attributes(layer: Layer, factors: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return what programs want to know of all levels."""
    facts = {
        "multiScale": True,
        "scales": [level[::-1] for level in factors],
        "axes": list("xyz"),
        **_resolution(layer),
    }
    if layer.voxel_size is None:
        return facts
    levels = [
        {"path": f"s{number}", **_placed(layer, level)} for number, level in enumerate(factors)
    ]
    return {**facts, "multiscales": [{"name": layer.name, "datasets": levels}]}


def _level_attributes(layer: Layer, factors: Sequence[int]) -> dict[str, Any]:
    # A resolution beside factors is that of the level for some programs, for others that of s0.
    full = _resolution(layer) if set(factors) == {1} else {}
    pixel = {key: value for key, value in _resolution(layer).items() if key == "pixelResolution"}
    return {"downsamplingFactors": factors[::-1], **_placed(layer, factors), **pixel, **full}


def _resolution(layer: Layer) -> dict[str, Any]:
    if layer.voxel_size is None:
        return {}
    edges = layer.voxel_size.zyx[::-1]
    pixel = {"unit": "nm", "dimensions": edges}
    return {"resolution": edges, "units": ["nm"] * 3, "pixelResolution": pixel}


def _placed(layer: Layer, factors: Sequence[int]) -> dict[str, Any]:
    """Return how a level lies in space: a coarse voxel has its centre amid those it stands for."""
    if layer.voxel_size is None:
        return {}
    pairs = list(zip(layer.voxel_size.zyx, factors, strict=True))
    transform = {
        "axes": list("zyx"),
        "units": ["nm"] * 3,
        "scale": [edge * factor for edge, factor in pairs],
        "translate": [edge * (factor - 1) / 2 for edge, factor in pairs],
    }
    return {"transform": transform}


def _put(folder: Path, attributes: Mapping[str, Any]) -> None:
    (folder / _ATTRIBUTES).write_text(json.dumps(attributes))
