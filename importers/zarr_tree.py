"""Finding the array that is meant in a tree of Zarr groups."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import zarr
from natsort import natsorted

from biosegment.errors import ChoiceError, UnreadableFileError
from importers.datasets import chosen_dataset
from importers.ngff import OmeImage, ome_attributes

Node = zarr.Group | zarr.Array[Any]
_MOST_CANDIDATES = 1000
_MOST_DEPTH = 8
_COARSE_LEVEL = re.compile(r"s[1-9]\d*")


@dataclass(frozen=True, slots=True)
class FoundArray:
    """An array, and what the groups above it tell."""

    path: str
    """Where it lies below the root; empty for the root itself."""
    array: zarr.Array[Any]
    """The array."""
    image: OmeImage | None
    """The image of which it is a level, None if it is a plain array."""
    level: str
    """Its path in that image."""
    attributes: Mapping[str, Any]
    """Its own, and those of the groups above that it does not replace."""

    @property
    def is_coarse(self) -> bool:
        """Whether its name says that it is a coarser level of another array."""
        return bool(_COARSE_LEVEL.fullmatch(self.path.split("/")[-1]))


def find_array(source: Path | str, root: Node, chosen: str | None) -> FoundArray:
    """Return the array that is chosen, or the full resolution of the only volume there is.

    Parameters
    ----------
    source
        Where the root lies, for errors.
    root
        A group or array.
    chosen
        Path below the root of an array or of a group that holds one volume.

    Raises
    ------
    ChoiceError
        If there are several volumes, or not the one that was chosen.
    UnreadableFileError
        If there is none.
    """
    if isinstance(root, zarr.Array):
        if chosen is not None:
            raise UnreadableFileError(str(source), "it is an array; leave --dataset out")
        return FoundArray("", root, None, "", root.attrs.asdict())
    path = "" if chosen is None else chosen.strip("/")
    node = root if not path else root.get(path)
    if node is None:
        raise ChoiceError(str(source), "dataset", tuple(_choices(root)), chosen)
    if isinstance(node, zarr.Group):
        volumes = list(islice(_volumes_below(node, path), _MOST_CANDIDATES))
        if not volumes:
            reason = "it holds no array of 3 to 5 axes of numbers, or none without --dataset"
            raise UnreadableFileError(str(source), reason)
        path = chosen_dataset(source, volumes, None)
        node = root[path]
    if isinstance(node, zarr.Group):
        raise UnreadableFileError(str(source), f"{path!r} in it is no array")
    return _with_groups_above(root, path, node)


def _choices(root: zarr.Group) -> list[str]:
    """Return what can be chosen: levels and label images of an image, else volumes."""
    image = OmeImage.of(root.attrs)
    if image is None:
        return list(islice(_volumes_below(root, ""), _MOST_CANDIDATES))
    labels = root.get("labels")
    names = ome_attributes(labels.attrs).get("labels", ()) if labels is not None else ()
    return [*image.scales, *(f"labels/{name}" for name in names)]


def _volumes_below(group: zarr.Group, path: str, depth: int = 0) -> Iterator[str]:
    """Yield the paths of arrays that could be volumes; of the levels of one, the finest."""
    below = f"{path}/" if path else ""
    image = OmeImage.of(group.attrs)
    if image is not None:
        yield below + next(iter(image.scales))
        return
    series = _series(group)
    members = dict(group.members()) if series is None else {name: group[name] for name in series}
    for name in natsorted(members):
        member = members[name]
        if isinstance(member, zarr.Group):
            if depth < _MOST_DEPTH:
                yield from _volumes_below(member, below + name, depth + 1)
        elif _could_be_volume(member) and not ("s0" in members and _COARSE_LEVEL.fullmatch(name)):
            yield below + name


def _series(group: zarr.Group) -> list[str] | None:
    """Return the images that bioformats2raw lists, which need not be looked for."""
    if "bioformats2raw.layout" not in ome_attributes(group.attrs):
        return None
    listing = group.get("OME")
    series = None if listing is None else ome_attributes(listing.attrs).get("series")
    return None if series is None else [str(name) for name in series]


def _could_be_volume(array: zarr.Array[Any]) -> bool:
    extended = sum(size > 1 for size in array.shape)
    return 3 <= array.ndim <= 5 and extended > 1 and array.dtype.kind in "iufb"


def _with_groups_above(root: zarr.Group, path: str, array: zarr.Array[Any]) -> FoundArray:
    attributes = array.attrs.asdict()
    parts = path.split("/")
    image, level = None, ""
    for count in reversed(range(len(parts))):
        above = "/".join(parts[:count])
        group = root[above] if above else root
        attributes = {**group.attrs, **attributes}
        described = OmeImage.of(group.attrs)
        below = "/".join(parts[count:])
        if image is None and described is not None and below in described.scales:
            image, level = described, below
    return FoundArray(path, array, image, level, attributes)
