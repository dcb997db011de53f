"""HDF5 as ilastik reads it: a dataset of intensities, one of labels, or both (.h5).

``image`` and ``labels`` have the axes z, y, x, told by ``axistags``, and the edges of their voxels
in micrometres as ``element_size_um``. What labels mean is JSON in ``label_names``, such as
``{"1": "mitochondria"}``, which is this project's own. A chunk lies in one slice, so that slices
read fast; it is compressed by gzip, which every HDF5 library has.

References
----------
.. [1] https://ukoethe.github.io/vigra/doc-release/vigranumpy/ (axistags)
.. [2] https://www.ilastik.org/documentation/basics/dataselection
.. [3] ImageJ's HDF5 plugin: ``element_size_um``, the edges z, y, x.

Examples
--------
>>> import h5py, numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.h5"
>>> Hdf5Writer().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> with h5py.File(path) as file:
...     file["image"].shape
(2, 3, 4)
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exporters.base import Layer, VolumeWriter, writable_dtype
from exporters.hdf5_file import new_hdf5

_NM_PER_UM = 1000
_LEVEL = 1
_CHUNK_PX = 256
# What vigra calls an axis of space.
_SPACE = 2


class Hdf5Writer(VolumeWriter):
    """Writes HDF5 files."""

    IMAGE_SUFFIX = ".h5"
    LABELS_SUFFIX = ".h5"
    TOGETHER = True
    LABELS_DATASET = "labels"
    IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        with new_hdf5(path) as (file, check):
            if image:
                dtype = writable_dtype(image.dtype, self.IMAGE_DTYPES)
                _fill(_dataset(file, "image", image, dtype), image, check)
            if labels:
                dtype = writable_dtype(labels.dtype, self.LABELS_DTYPES)
                dataset = _dataset(file, self.LABELS_DATASET, labels, dtype)
                _fill(dataset, labels, check)
                names = {str(each.value): each.name for each in labels.classes}
                dataset.attrs["label_names"] = json.dumps(names)


def _dataset(
    file: Any,  # noqa: ANN401 (h5py has no types)
    name: str,
    layer: Layer,
    dtype: np.dtype[Any] | None,
) -> Any:  # noqa: ANN401
    """Return the new, empty dataset of a layer."""
    dataset = file.create_dataset(
        name,
        layer.shape,
        dtype,
        chunks=(1, *(min(size, _CHUNK_PX) for size in layer.shape[1:])),
        compression="gzip",
        compression_opts=_LEVEL,
        shuffle=True,
    )
    axes = [
        {"key": axis, "typeFlags": _SPACE, "resolution": 0, "description": ""} for axis in "zyx"
    ]
    dataset.attrs["axistags"] = json.dumps({"axes": axes})
    if layer.voxel_size:
        dataset.attrs["element_size_um"] = [edge / _NM_PER_UM for edge in layer.voxel_size.zyx]
    return dataset


def _fill(dataset: Any, layer: Layer, check: Callable[[], None]) -> None:  # noqa: ANN401
    for z, plane in enumerate(layer.planes(dataset.dtype)):
        dataset[z] = plane
        check()
