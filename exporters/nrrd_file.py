"""NRRD: intensities, label maps (.nrrd), and labels as segments of 3D Slicer (.seg.nrrd).

Lengths are millimetres, as 3D Slicer takes them; edges are 1, without a unit, where the voxel size
is unknown. Segments have names and colours, do not overlap, and lie in one layer. Each value of a
label image without names of 8 bits is a segment. Of more bits, its values number objects, of which
there may be thousands, more than the list of segments is made for: it becomes a label map, a plain
array, of which the program makes segments on demand.

References
----------
.. [1] https://teem.sourceforge.net/nrrd/format.html
.. [2] 3D Slicer's developer guide, "Segmentations", on files with the ending .seg.nrrd

Examples
--------
>>> import nrrd, numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.nrrd"
>>> NrrdWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> nrrd.read_header(str(path))["sizes"].tolist()
[4, 3, 2]
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.geometry import Roi
from exporters.base import LabelClass, Layer, VolumeWriter, renamed, writable_dtype
from exporters.extents import bounding_boxes
from exporters.object_colours import object_colour

_NM_PER_MM = 1e6
_LEVEL = 1
_TYPES = {"float32": "float", "float64": "double"}


class NrrdWriter(VolumeWriter):
    """Writes NRRD files."""

    IMAGE_SUFFIX = ".nrrd"
    LABELS_SUFFIX = ".seg.nrrd"
    IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

    def labels_suffix(self, labels: Layer) -> str:
        """Return the ending of segments, or of a label map."""
        return ".nrrd" if _is_map(labels) else self.LABELS_SUFFIX

    def labels_dtypes(self, labels: Layer) -> tuple[str, ...]:
        """Return those of segments, or of a label map."""
        return (*self.LABELS_DTYPES, "uint32") if _is_map(labels) else self.LABELS_DTYPES

    def notices(self, labels: Layer) -> tuple[str, ...]:
        """Return which names were changed."""
        return renamed((each.name, _one_line(each.name)) for each in labels.classes)

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        if labels is None:
            assert image is not None
            self._stream(path, image, self.IMAGE_DTYPES, [])
        elif _is_map(labels):
            self._stream(path, labels, self.labels_dtypes(labels), [])
        else:
            fields = _segments(labels, bounding_boxes(labels))
            self._stream(path, labels, self.LABELS_DTYPES, fields)

    def _stream(self, path: Path, layer: Layer, dtypes: tuple[str, ...], fields: list[str]) -> None:
        dtype = writable_dtype(layer.dtype, dtypes)
        header = [*_header(layer, str(dtype)), *fields, "", ""]
        with path.open("wb") as file:
            file.write("\n".join(header).encode())
            with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream:
                for plane in layer.planes(dtype):
                    stream.write(np.ascontiguousarray(plane).data)


def _header(layer: Layer, dtype: str) -> list[str]:
    z, y, x = layer.shape
    edges = [edge / _NM_PER_MM for edge in layer.voxel_size.zyx] if layer.voxel_size else [1.0] * 3
    directions = f"({edges[2]!r},0,0) (0,{edges[1]!r},0) (0,0,{edges[0]!r})"
    return [
        "NRRD0004",
        f"type: {_TYPES.get(dtype, dtype)}",
        "dimension: 3",
        # An anatomical space means millimetres.
        *(["space: left-posterior-superior"] if layer.voxel_size else ["space dimension: 3"]),
        f"sizes: {x} {y} {z}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        *([] if np.dtype(dtype).itemsize == 1 else ["endian: little"]),
        "encoding: gzip",
        "space origin: (0,0,0)",
    ]


def _is_map(labels: Layer) -> bool:
    """Tell whether labels number objects, too many for a segment each."""
    return not labels.classes and labels.dtype.itemsize > 1


def _one_line(name: str) -> str:
    # A field ends with its line, and there a backslash begins a sign of its own.
    return " ".join(name.replace("\\", "/").split())


def _segments(layer: Layer, boxes: dict[int, Roi]) -> list[str]:
    """Return the fields that 3D Slicer knows segments by."""
    representation = "Binary labelmap"
    fields = [
        f"Segmentation_ContainedRepresentationNames:={representation}|",
        "Segmentation_ConversionParameters:=",
        f"Segmentation_MasterRepresentation:={representation}",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
        f"Segmentation_SourceRepresentation:={representation}",
    ]
    numbered = (LabelClass(value, str(value), object_colour(value)) for value in boxes)
    for number, each in enumerate(layer.classes or numbered):
        colour = " ".join(f"{part / 255:.6g}" for part in each.colour)
        values: dict[str, Any] = {
            "ID": f"Segment_{each.value}",
            "Name": _one_line(each.name),
            "NameAutoGenerated": 0,
            "Color": colour,
            "ColorAutoGenerated": 0,
            "LabelValue": each.value,
            "Layer": 0,
            "Extent": _extent(boxes.get(each.value)),
            "Tags": "|",
        }
        fields += [f"Segment{number}_{field}:={value}" for field, value in values.items()]
    return fields


def _extent(box: Roi | None) -> str:
    """Return the first and last x, y and z of a segment, both inside."""
    if box is None:
        # An empty segment ends before it begins.
        return "0 -1 0 -1 0 -1"
    return " ".join(f"{part.start} {part.stop - 1}" for part in reversed(box.slices))
