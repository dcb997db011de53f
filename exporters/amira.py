"""AmiraMesh (.am): intensities, or labels as materials of Amira.

Lengths are micrometres, told as such; edges are 1, without a unit, where the voxel size is unknown.
The box goes from the centre of the first voxel to that of the last one; an axis of one slice counts
as two. Voxels are raw, because Microscopy Image Browser reads no others of more than 8 bits.

Cannot be stored: names with other characters than letters, digits and underscores, or that begin
with a digit. Another character becomes an underscore, and a name that is taken already gets a
number: ``my label`` becomes ``my_label``. Where names were changed, an import of the labels needs
``--map`` to tell what the values mean. Numbered objects are materials up to the number 255, above
it an array without materials. Floats of 64 bits are refused, because Bio-Formats, which is in Fiji
too, takes them for bytes.

References
----------
.. [1] Amira user's guide, "AmiraMesh file format"
.. [2] Files that Amira wrote: the places of ``Materials`` and ``BoundingBox``

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.am"
>>> AmiraWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> path.read_bytes().splitlines()[2]
b'define Lattice 4 3 2'
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporters.base import LabelClass, Layer, VolumeWriter, renamed, writable_dtype
from exporters.extents import largest_value
from exporters.object_colours import object_colour

_NM_PER_UM = 1000
_EXTERIOR = LabelClass(0, "Exterior", (0, 0, 0))
_NAMELESS = (255, 255, 255)
_MOST_OBJECTS = 255
_TYPES = {
    "uint8": "byte",
    "uint16": "ushort",
    "int16": "short",
    "int32": "int",
    "float32": "float",
}


class AmiraWriter(VolumeWriter):
    """Writes AmiraMesh files."""

    IMAGE_SUFFIX = ".am"
    LABELS_SUFFIX = ".am"
    IMAGE_DTYPES = tuple(_TYPES)

    def notices(self, labels: Layer) -> tuple[str, ...]:
        """Return which names were changed."""
        written = {each.value: name for name, each in _materials(labels.classes)}
        return renamed((each.name, written[each.value]) for each in labels.classes)

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        if labels is None:
            assert image is not None
            _stream(path, image, writable_dtype(image.dtype, self.IMAGE_DTYPES), "Data", [])
        else:
            dtype = writable_dtype(labels.dtype, self.LABELS_DTYPES)
            _stream(path, labels, dtype, "Labels", _material_lines(labels))


def _stream(
    path: Path, layer: Layer, dtype: np.dtype[Any] | None, array: str, materials: list[str]
) -> None:
    assert dtype is not None
    with path.open("wb") as file:
        file.write("\n".join(_header(layer, _TYPES[str(dtype)], array, materials)).encode())
        for plane in layer.planes(dtype.newbyteorder("<")):
            file.write(np.ascontiguousarray(plane).data)
        file.write(b"\n")


def _header(layer: Layer, kind: str, array: str, materials: list[str]) -> list[str]:
    z, y, x = layer.shape
    # Readers go by lines: each closing bracket has its own.
    return [
        "# AmiraMesh BINARY-LITTLE-ENDIAN 2.1",
        "",
        f"define Lattice {x} {y} {z}",
        "",
        "Parameters {",
        *materials,
        *(["    Units {", '        Coordinates "um"', "    }"] if layer.voxel_size else []),
        f'    Content "{x}x{y}x{z} {kind}, uniform coordinates",',
        f"    BoundingBox {_bounding_box(layer)},",
        '    CoordType "uniform"',
        "}",
        "",
        f"Lattice {{ {kind} {array} }} @1",
        "",
        "# Data section follows",
        "@1",
        "",
    ]


def _bounding_box(layer: Layer) -> str:
    edges = [edge / _NM_PER_UM for edge in layer.voxel_size.zyx] if layer.voxel_size else [1.0] * 3
    lengths = [max(size - 1, 1) * edge for size, edge in zip(layer.shape, edges, strict=True)]
    return " ".join(f"0 {length:.10g}" for length in reversed(lengths))


def _material_lines(labels: Layer) -> list[str]:
    classes = labels.classes
    if not classes:
        # Materials stand before the voxels.
        if (largest := largest_value(labels)) > _MOST_OBJECTS:
            return []
        numbers = range(1, largest + 1)
        classes = tuple(LabelClass(n, f"value_{n}", object_colour(n)) for n in numbers)
    lines = ["    Materials {"]
    for name, each in _materials(classes):
        colour = " ".join(f"{part / 255:.6g}" for part in each.colour)
        lines += [f"        {name} {{", f"            Color {colour},"]
        lines += [f"            Id {each.value}", "        }"]
    return [*lines, "    }"]


def _materials(classes: Sequence[LabelClass]) -> list[tuple[str, LabelClass]]:
    """Return the materials with their names in the file, the first one being that of 0."""
    taken: set[str] = set()
    # Amira goes by their order, so a value that means nothing needs one, too.
    known = {each.value: each for each in classes}
    for value in range(1, max(known, default=0) + 1):
        known.setdefault(value, LabelClass(value, f"value_{value}", _NAMELESS))
    named = []
    for each in (_EXTERIOR, *(known[value] for value in sorted(known))):
        name = _free_name(each.name, taken)
        taken.add(name)
        named.append((name, each))
    return named


def _free_name(name: str, taken: set[str]) -> str:
    """Return a name that the format takes and no other material has."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    stem = f"_{plain}" if plain[:1].isdigit() else plain or "_"
    free, count = stem, 1
    while free in taken:
        count += 1
        free = f"{stem}_{count}"
    return free
