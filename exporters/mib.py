"""Models of Microscopy Image Browser (.model): labels in a MATLAB file of version 5.

Names and colours of materials stand in the order of their values. The box is in micrometres and
goes from the centre of the first voxel to that of the last one; an axis of one slice counts as two.
There is none where the voxel size is unknown. Axes are y, x, z, as MATLAB has them.

Objects that are numbered by 16 or 32 bits make a model of that many materials, which the program
calls by their numbers.

Cannot be stored: intensities, which the program reads from TIFF, and labels of 2 GiB and more. The
whole volume has to be in memory, about three times while it is compressed.

References
----------
.. [1] https://github.com/Ajaxels/MIB2, ``saveModel.m``, ``loadModel.m`` and ``getBoundingBox.m``
.. [2] MathWorks, "MAT-File Format": a variable of version 5 has less than 2^31 bytes.

Examples
--------
>>> import numpy as np, scipy.io, tempfile, pathlib
>>> from exporters.testing import CLASSES, layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "Labels_stack.model"
>>> MibWriter().write(path, None, layer_of(np.zeros((2, 3, 4), "uint8"), CLASSES))
>>> scipy.io.loadmat(path)["mibModel"].shape
(3, 4, 2)
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from biosegment.errors import ExportError
from exporters.base import LabelClass, Layer, VolumeWriter, writable_dtype
from exporters.object_colours import object_colours

MOST_BYTES = 2**31 - 1
"""Of a variable in a MATLAB file of version 5."""
_NM_PER_UM = 1000
_FEW_MATERIALS = 63
_NAMELESS = (255, 255, 255)
# The program itself names two of many materials, and gives colours to so many.
_NAMED_OBJECTS, _COLOURED_OBJECTS = 2, 65535


class MibWriter(VolumeWriter):
    """Writes models of Microscopy Image Browser."""

    LABELS_SUFFIX = ".model"
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def check(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        """Raise ExportError also if the model is too large."""
        if labels is not None:
            size = math.prod(labels.shape) * labels.dtype.itemsize
            if size > MOST_BYTES:
                reason = f"it would have {size:,} bytes, and a MATLAB file holds {MOST_BYTES:,}"
                raise ExportError(str(path), reason)
        super().check(path, image, labels)

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        assert labels is not None
        model = _gathered(labels, writable_dtype(labels.dtype, self.LABELS_DTYPES))
        names, colours = _materials(labels, model)
        variables: dict[str, Any] = {
            "mibModel": model,
            "modelVariable": "mibModel",
            "modelMaterialNames": np.array(names, object)[:, None],
            "modelMaterialColors": np.array(colours, float) / 255,
            "modelType": _model_type(model.dtype, len(names)),
        }
        if labels.voxel_size:
            variables["BoundingBox"] = _bounding_box(labels)
        with path.open("wb") as file:
            scipy.io.savemat(file, variables, format="5", do_compression=True, oned_as="column")


def _gathered(layer: Layer, dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
    depth, height, width = layer.shape
    # MATLAB's order, in which a slice lies in one piece.
    model = np.empty((height, width, depth), dtype, order="F")
    for z, plane in enumerate(layer.planes()):
        model[:, :, z] = plane
    return model


def _materials(layer: Layer, model: npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """Return names and colours of the values from 1.

    Up to 255 the program wants one for every value that occurs.
    """
    is_small = model.dtype.itemsize == 1
    if not layer.classes:
        named = int(model.max()) if is_small else _NAMED_OBJECTS
        coloured = named if is_small else _COLOURED_OBJECTS
        names = [str(value) for value in range(1, named + 1)]
        return names, object_colours(np.arange(1, coloured + 1))
    known = {each.value: each for each in layer.classes}
    occurs = int(model.max()) if is_small else 0
    classes = [
        known.get(value, LabelClass(value, str(value), _NAMELESS))
        for value in range(1, max([occurs, *known]) + 1)
    ]
    return [each.name for each in classes], np.array([each.colour for each in classes], np.uint8)


def _model_type(dtype: np.dtype[Any], materials: int) -> float:
    """Return the largest value that the program leaves room for."""
    few = dtype.itemsize == 1 and materials <= _FEW_MATERIALS
    return float(_FEW_MATERIALS if few else np.iinfo(dtype).max)


def _bounding_box(layer: Layer) -> npt.NDArray[np.float64]:
    assert layer.voxel_size is not None
    edges = zip(layer.shape, layer.voxel_size.zyx, strict=True)
    z, y, x = (max(size - 1, 1) * edge / _NM_PER_UM for size, edge in edges)
    return np.array([[0, x, 0, y, 0, z]])
