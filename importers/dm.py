"""Images and stacks of Gatan's DigitalMicrograph, DM3 and DM4.

The tags are parsed by RosettaSciIO (GPL, so it is an extra of its own and imported only when a
file is opened); voxels are read here by region. Of several images in a file, thumbnails aside, one
has to be chosen by name. Calibrations that are no length, such as 1/nm, leave the voxel size
unknown, and so does a single image.

Cannot be read: spectra, more than three axes (4D-STEM), complex numbers.

References
----------
.. [1] https://hyperspy.org/rosettasciio/supported_formats/digitalmicrograph.html
.. [2] http://www.er-c.org/cbb/info/dmformat
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize, nm_per_unit
from importers.base import VolumeInfo, describe_shape
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.optional import optional_module
from importers.raw_array import RawArray, RawReader

_MAGIC = {3: struct.Struct(">I4xI"), 4: struct.Struct(">I8xI")}
# 14 are truth values, a byte each.
_TYPES = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1"}
_COLOUR_TYPES = (8, 23)
_COLOURS = ("blue", "green", "red", "alpha")
_MOST_AXES = 3
# The parser makes a Python object of every number in a tag but the voxels, and is slow with text.
_MOST_NUMBERS = 2**25
_LONGEST_TEXT = 2**16
_ACQUISITION = (
    *("Acquisition", "DataBar", "DigiScan", "Meta Data", "Microscope Info"),
    *("Session Info", "GMS Version"),
)


class DmReader(RawReader):
    """An image of a DM3 or DM4 file as a volume; its third axis is z."""

    SUFFIXES = (".dm3", ".dm4")
    EXTRA = "dm"

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a DM3 or DM4 file, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with path.open("rb") as file:
            content = file.read(16)
        for version, magic in _MAGIC.items():
            if len(content) == 16 and magic.unpack_from(content) in ((version, 0), (version, 1)):
                return None
        return "it does not begin like a DM3 or DM4 file"

    def _describe(self) -> tuple[RawArray, VolumeInfo]:
        images = _images(self.path)
        dataset = chosen_dataset(self.path, images, self.choice.dataset)
        image = images[dataset]
        array, names = _voxels(self.path, image["ImageData"])
        tags = image.get("ImageTags", {})
        metadata = dict(_texts({group: tags[group] for group in _ACQUISITION if group in tags}))
        edges = _edges(image["ImageData"])
        if len(edges) == 2:
            metadata["pixel size"] = f"{edges[1]:g} x {edges[0]:g} nm (y, x)"
        size = _voxel_size(edges)
        return array, replace(array.info(self.path, size, metadata, names), dataset=dataset)


def _images(path: Path) -> dict[str, Mapping[str, Any]]:
    """Return the tags of each image in a file by its name, thumbnails left out."""
    library = optional_module("rsciio.digitalmicrograph._api", path.name, "dm")
    errors = optional_module("rsciio.exceptions", path.name, "dm")
    own = (errors.DM3DataTypeError, errors.DM3TagError, errors.DM3TagIDError)
    with path.open("rb") as file, explain_damage(path, *own, errors.DM3TagTypeError):
        parser = library.DigitalMicrographReader(file)
        left = _MOST_NUMBERS
        read_array, read_string = parser.read_array, parser.read_string

        def read_few(size: int, *args: object, skip: bool = False, **options: object) -> object:
            nonlocal left
            left -= 0 if skip else abs(size)
            if size < 0 or left < 0:
                raise ValueError(f"a tag of {size} numbers")
            return read_array(size, *args, skip=skip, **options)

        def read_short(length: int, skip: bool = False) -> object:
            if not 0 <= length <= _LONGEST_TEXT:
                raise ValueError(f"a tag of {length} letters")
            return read_string(length, skip=skip)

        # Lengths that make no sense would keep the parser busy for hours.
        parser.read_array, parser.read_string = read_few, read_short
        parser.parse_file()
        images: dict[str, Mapping[str, Any]] = {}
        for tags in parser.get_image_dictionaries() or ():
            name = str(tags.get("Name") or f"image {len(images) + 1}")
            images[name if name not in images else f"{name} {len(images) + 1}"] = tags
        return images


def _voxels(path: Path, image: Mapping[str, Any]) -> tuple[RawArray, tuple[str, ...]]:
    """Return how the voxels lie, and the names of colours."""
    # The fastest axis comes first; axes of one voxel may follow the third.
    sizes = tuple(int(size) for size in image["Dimensions"].values())
    while len(sizes) > _MOST_AXES and sizes[-1] == 1:
        sizes = sizes[:-1]
    if not 2 <= len(sizes) <= _MOST_AXES:
        reason = f"it has {len(sizes)} axes ({describe_shape(sizes[::-1])}), not z, y and x"
        raise UnreadableFileError(str(path), reason)
    kind, data = image["DataType"], image["Data"]
    if kind not in _TYPES and kind not in _COLOUR_TYPES:
        raise UnreadableFileError(str(path), f"its values, of type {kind}, are no real numbers")
    order: Literal["<", ">"] = ">" if data["endian"] == "big" else "<"
    dtype = np.dtype(_TYPES.get(kind, "u1")).newbyteorder(order)
    axes, stored = "zyx"[-len(sizes) :], sizes[::-1]
    if kind in _COLOUR_TYPES:
        axes, stored = f"{axes}c", (*stored, len(_COLOURS))
    array = RawArray(axes, stored, dtype, int(data["offset"]))
    if array.end - array.offset > data["size_bytes"]:
        reason = f"it should hold {describe_shape(stored)} voxels in {data['size_bytes']} bytes"
        raise UnreadableFileError(str(path), reason)
    return array, _COLOURS if kind in _COLOUR_TYPES else ()


def _edges(image: Mapping[str, Any]) -> list[float]:
    """Return the calibrated steps along x, y and z in nm, as far as they are lengths."""
    axes = list(image.get("Calibrations", {}).get("Dimension", {}).values())
    edges = []
    for axis in axes[: min(len(image["Dimensions"]), _MOST_AXES)]:
        nm = nm_per_unit(str(axis["Units"]))
        if nm is None:
            return []
        edges.append(float(axis["Scale"]) * nm)
    return edges


def _voxel_size(edges: Sequence[float]) -> VoxelSize | None:
    try:
        return VoxelSize(*edges[::-1]) if len(edges) == _MOST_AXES else None
    except ValueError:
        return None


def _texts(tags: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tags.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{within}{name}.")
        elif isinstance(value, str | int | float) and str(value).strip():
            yield f"{within}{name}", str(value)
