r"""Amira and Avizo volumes (.am) on a uniform lattice: raw, HxByteRLE, HxZip or text.

The bounding box spans the centres of the outer voxels, so that a voxel is its extent divided by one
less than their number; its unit is that of ``Units``, and where there is none, the voxel size is
unknown. Materials name the values of a label field by their order, the exterior being 0: Amira's
own Ids are numbers of its own. Where Ids contradict the order and may be meant as values, no
names are told.

Cannot be read: values of several numbers (vectors, colours), lattices whose slices are not evenly
spaced, run lengths of more than a byte. The header is parsed here, because the library that does
(ahds) does not work with NumPy 2.

References
----------
.. [1] Amira's User's Guide, "AmiraMesh Format".
.. [2] Ids and values of materials: https://github.com/natverse/nat/issues/284

Examples
--------
>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "cells.am"
>>> header = "# AmiraMesh 3D ASCII 2.0\ndefine Lattice 2 1 1\nLattice { byte Labels } @1\n"
>>> _ = path.write_text(header + "# Data section follows\n@1\n0\n7\n")
>>> with AmiraReader(path) as stack:
...     stack.info.shape, stack.info.dataset
((1, 1, 2), 'Labels')
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize, nm_per_unit
from importers.amira_header import FIRST_LINE, AmiraHeader, Entry, Field
from importers.attributes import texts
from importers.base import VolumeInfo
from importers.bounding_box import box_edges
from importers.datasets import chosen_dataset
from importers.gunzip import MOST_DEFLATED, unpacked
from importers.packing import inflated, most_in_runs, numbers, part_of, run_lengths
from importers.raw_array import RawArray, RawReader

_LABELS = "Labels"
_LONGEST_LINE_BYTES = 2**10
# Parameters of the format itself, which say nothing of the image.
_TECHNICAL = ("Content", "CoordType", "BoundingBox")
_STRANGE_IDS = (
    "its materials have Ids that are not their order, so that it is not clear which values they "
    "name; --map tells what values mean"
)


class AmiraReader(RawReader):
    """An array on a lattice of an AmiraMesh file as a volume."""

    SUFFIXES = (".am",)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not an AmiraMesh file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            begins = FIRST_LINE.match(file.readline(_LONGEST_LINE_BYTES))
        return None if begins else "it does not begin like an AmiraMesh file"

    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        with self.path.open("rb") as file:
            self._header = AmiraHeader.read(self.path, file)
            arrays = _scalars(self.path, self._header)
            wanted = self.choice.dataset
            if wanted is None and _LABELS in arrays:
                wanted = _LABELS
            field = self._field = arrays[chosen_dataset(self.path, arrays, wanted)]
            voxel_type = self._header.voxel_type(self.path, field)
            self._start, end = self._header.find_data(self.path, file, field)
        self._packed_bytes = end - self._start
        in_place = self._header.order and not field.packing
        offset = self._start if in_place else 0
        array = RawArray("zyx"[-len(field.sizes) :], field.sizes[::-1], voxel_type, offset)
        size, notices = _voxel_size(self._header, field)
        named, doubts = _label_names(self._header)
        are_labels = array.dtype.kind in "iu" and (field.name == _LABELS or len(arrays) == 1)
        info = array.info(self.path, size, _remarks(self._header))
        return array, replace(
            info,
            dataset=field.name,
            label_names=named if are_labels else {},
            notices=(*notices, *doubts) if are_labels else notices,
        )

    def _open(self) -> IO[bytes]:
        file = self.path.open("rb")
        if self._header.order and not self._field.packing:
            return file
        with file:
            size = self._packed_bytes
            if self._start + size > file.seek(0, 2):
                reason = f"it is cut off: its data should reach to byte {self._start + size}"
                raise UnreadableFileError(str(self.path), reason)
            file.seek(self._start)
            chunks, most = self._unpack(part_of(file, size), size)
            return unpacked(self.path, chunks, self._array.end, most)

    def _unpack(self, chunks: Iterator[bytes], size: int) -> tuple[Iterator[bytes], int]:
        """Return what `size` bytes of data stand for, and how many bytes that can be at most."""
        packing, dtype = self._field.packing, self._array.dtype
        if not self._header.order and not packing:
            # Every number takes a digit and a blank.
            return numbers(chunks, dtype), (size + 1) // 2 * dtype.itemsize
        if packing == "HxZip":
            return inflated(chunks), MOST_DEFLATED * size
        if packing == "HxByteRLE" and dtype.itemsize == 1:
            return run_lengths(chunks), most_in_runs(size)
        reason = (
            f"its values of type {self._field.kind} are packed by {packing}; raw data, text, HxZip "
            "and, for single bytes, HxByteRLE can be read"
        )
        raise UnreadableFileError(str(self.path), reason)


def _scalars(path: Path, header: AmiraHeader) -> dict[str, Field]:
    """Return the arrays that are volumes of single numbers, by name."""
    coordinates = header.find("Parameters", "CoordType")
    if coordinates is not None and coordinates.values not in ([], ["uniform"]):
        reason = (
            f"its coordinates are {coordinates.values[0]}; resample it to a uniform lattice first"
        )
        raise UnreadableFileError(str(path), reason)
    volumes = [array for array in header.fields if len(array.sizes) in (2, 3)]
    scalars = {array.name: array for array in reversed(volumes) if array.components == 1}
    if not scalars:
        reason = "it holds no array on a lattice of two or three axes"
        if volumes:
            reason = f"its values are of {volumes[0].components} numbers each, not of one"
        raise UnreadableFileError(str(path), reason)
    return dict(reversed(scalars.items()))


def _voxel_size(header: AmiraHeader, array: Field) -> tuple[VoxelSize | None, tuple[str, ...]]:
    """Return the voxel size, None if it is not told, and what is to be said of it."""
    box = header.find("Parameters", "BoundingBox")
    if box is None or len(array.sizes) < 3:
        return None, ()
    x, y, z = array.sizes
    edges = box_edges([float(value) for value in box.values], (z, y, x))
    if edges is None:
        return None, ()
    unit = header.find("Parameters", "Units", "Coordinates")
    nm = nm_per_unit(unit.values[0]) if unit is not None and unit.values else None
    if nm is None:
        size = " x ".join(f"{edge:g}" for edge in edges)
        notice = f"its voxels are {size} (z, y, x) of a unit that it does not tell"
        return None, (f"{notice}; --voxel-size tells their size",)
    return VoxelSize(*(edge * nm for edge in edges)), ()


def _label_names(header: AmiraHeader) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the names of values but for the exterior, and what is to be said of them."""
    found = header.find("Parameters", "Materials") or header.find("Materials")
    materials = found.block if found is not None else []
    ids = [_value(material, "Id") for material in materials]
    by_order = all(stated in (None, str(place)) for place, stated in enumerate(ids))
    # With an exterior that is not 0, Ids cannot be values.
    by_amira = bool(materials) and materials[0].name == "Exterior" and ids[0] not in (None, "0")
    if not by_order and not by_amira:
        return {}, (_STRANGE_IDS,)
    names = [_value(material, "Name") or material.name for material in materials]
    return {place: name for place, name in enumerate(names) if place and name}, ()


def _value(entry: Entry, name: str) -> str | None:
    """Return the first value of a line in a block, None if there is none."""
    return next((line.values[0] for line in entry.block if line.name == name and line.values), None)


def _remarks(header: AmiraHeader) -> dict[str, str]:
    parameters = header.find("Parameters")
    lines = parameters.block if parameters is not None else []
    return texts(
        {line.name: " ".join(line.values) for line in lines if line.name not in _TECHNICAL}
    )
