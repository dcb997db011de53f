"""NIfTI, gzipped, for intensities and for labels (.nii.gz).

Lengths are micrometres, and the header says so; where the voxel size is unknown, edges are 1 and
the unit is unknown too. Coordinates are such that a volume lies where its NRRD file lies. An extent
above 32767 makes it NIfTI-2.

The format has no place for what labels mean.

References
----------
.. [1] https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
.. [2] https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h

Examples
--------
>>> import nibabel, numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.nii.gz"
>>> NiftiWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> nibabel.load(path).shape
(4, 3, 2)
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from exporters.base import Layer, VolumeWriter, writable_dtype

_NM_PER_UM = 1000
_LEVEL = 1
_LARGEST_EXTENT = 2**15 - 1
_ALIGNED = 2


class NiftiWriter(VolumeWriter):
    """Writes NIfTI files."""

    IMAGE_SUFFIX = ".nii.gz"
    LABELS_SUFFIX = ".nii.gz"
    IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        layer, dtypes = (image, self.IMAGE_DTYPES) if image else (labels, self.LABELS_DTYPES)
        assert layer is not None
        dtype = writable_dtype(layer.dtype, dtypes)
        assert dtype is not None
        header = _header(layer, dtype)
        if labels:
            header.set_intent("label", name="labels")
        with path.open("wb") as file, gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream:
            header.write_to(stream)
            for plane in layer.planes(dtype.newbyteorder("<")):
                stream.write(np.ascontiguousarray(plane).data)


def _header(layer: Layer, dtype: np.dtype[Any]) -> Nifti1Header:
    kind = Nifti2Header if max(layer.shape) > _LARGEST_EXTENT else Nifti1Header
    header = kind(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(layer.shape[::-1])
    size = layer.voxel_size
    x, y, z = [edge / _NM_PER_UM for edge in reversed(size.zyx)] if size else [1.0] * 3
    header.set_xyzt_units("micron" if size else "unknown")
    # Coordinates grow to the right and to the front here, to the left and to the back in NRRD.
    affine = np.diag([-x, -y, z, 1])
    header.set_qform(affine, _ALIGNED)
    header.set_sform(affine, _ALIGNED)
    return header
