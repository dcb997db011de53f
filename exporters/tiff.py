"""TIFF as ImageJ and Fiji write it, for intensities and for labels (.tif).

Lengths are micrometres, which every reader of such files understands. What labels mean stands in
the image's info, and their colours in a table that is stretched over the displayed values: with
values above 255 some share a colour. Objects that are numbered have colours of their own, unlike
those of their neighbours by number. Plain ImageJ reads no file above 4 GB; it becomes OME-TIFF,
without colours for labels of 16 bits.

References
----------
.. [1] ImageJ, ``ij.io.TiffEncoder`` and ``ij.io.TiffDecoder``: a 16-bit image has its colours in
   the tag ColorMap too, with 256 entries for each of red, green and blue.
.. [2] https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html

Examples
--------
>>> import numpy as np, tempfile, tifffile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.tif"
>>> TiffWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> with tifffile.TiffFile(path) as stack:
...     stack.imagej_metadata["unit"]
'um'
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile

from exporters.base import Layer, VolumeWriter, writable_dtype
from exporters.extents import largest_value
from exporters.object_colours import object_colours

LARGEST_IMAGEJ_BYTES = 2**32 - 2**25
"""Voxels that a file of plain ImageJ holds: offsets have 32 bits, and the tags need room too."""
_NM_PER_UM = 1000
_COLOR_MAP = 320
_UNSIGNED_SHORT = 3
_ENTRIES = 256
_BACKGROUND, _NAMELESS = (0, 0, 0), (255, 255, 255)


class TiffWriter(VolumeWriter):
    """Writes TIFF files of ImageJ, and OME-TIFF where they would be too large for it."""

    IMAGE_SUFFIX = ".tif"
    LABELS_SUFFIX = ".tif"

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        layer, dtypes = (image, self.IMAGE_DTYPES) if image else (labels, self.LABELS_DTYPES)
        assert layer is not None
        dtype = writable_dtype(layer.dtype, dtypes)
        assert dtype is not None
        large = math.prod(layer.shape) * dtype.itemsize > LARGEST_IMAGEJ_BYTES
        describe = _ome if large else _imagej
        # ImageJ 1.53 reads names beyond Latin letters wrong from little-endian files.
        order: Literal["<", ">"] = "<" if large else ">"
        tifffile.imwrite(
            path,
            _planes(layer, dtype.newbyteorder(order)),
            shape=layer.shape,
            dtype=dtype,
            byteorder=order,
            **describe(layer, dtype, labels=labels is not None),
        )


def _planes(layer: Layer, dtype: np.dtype[Any]) -> Iterator[bytes]:
    # Arrays would be written by NumPy, which does not say that the disk is full.
    for plane in layer.planes(dtype):
        yield plane.tobytes()


def _imagej(layer: Layer, dtype: np.dtype[Any], *, labels: bool) -> dict[str, Any]:
    largest = _largest(layer, dtype) if labels else 0
    black, white = (0, largest) if labels else layer.window
    metadata: dict[str, Any] = {"axes": "ZYX", "min": float(black), "max": float(white)}
    options: dict[str, Any] = {
        "imagej": True,
        "photometric": "minisblack",
        "metadata": metadata,
    }
    if layer.classes:
        metadata["Info"] = _meaning(layer)
    if labels:
        table = _colours(layer, largest).ravel().tolist()
        options["extratags"] = [(_COLOR_MAP, _UNSIGNED_SHORT, len(table), table, True)]
    if layer.voxel_size:
        z, y, x = (edge / _NM_PER_UM for edge in layer.voxel_size.zyx)
        metadata |= {"spacing": z, "unit": "um"}
        options["resolution"] = (1 / x, 1 / y)
    return options


def _ome(layer: Layer, dtype: np.dtype[Any], *, labels: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX", "Name": layer.name}
    if layer.classes:
        metadata["Description"] = _meaning(layer)
    if layer.voxel_size:
        for axis, edge in zip("ZYX", layer.voxel_size.zyx, strict=True):
            metadata |= {f"PhysicalSize{axis}": edge / _NM_PER_UM, f"PhysicalSize{axis}Unit": "µm"}
    # A table of all 16-bit values would take more room on each page than a small slice does.
    coloured = labels and dtype.itemsize == 1
    return {
        "ome": True,
        "bigtiff": True,
        "photometric": "palette" if coloured else "minisblack",
        "colormap": _colours(layer, _largest(layer, dtype)) if coloured else None,
        "metadata": metadata,
    }


def _meaning(layer: Layer) -> str:
    return "\n".join(f"{each.value}: {each.name}" for each in layer.classes)


def _largest(layer: Layer, dtype: np.dtype[Any]) -> int:
    """Return the value that has the last colour: the table is spread from 0 to it."""
    known = [each.value for each in layer.classes]
    # The table stands before the voxels.
    numbered = [largest_value(layer)] if not known and dtype.itemsize > 1 else []
    return max([_ENTRIES - 1, *known, *numbered])


def _colours(layer: Layer, largest: int) -> npt.NDArray[np.uint16]:
    """Return red, green and blue, 16 bits each, of the displayed values; shape (3, 256)."""
    table = np.full((_ENTRIES, 3), _NAMELESS, np.uint16)
    for each in layer.classes:
        table[round(each.value * (_ENTRIES - 1) / largest)] = each.colour
    if not layer.classes:
        table[:] = object_colours(np.arange(_ENTRIES))
    table[0] = _BACKGROUND
    # 255 becomes 65535.
    return table.T * np.uint16(257)
