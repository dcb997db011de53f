"""OME-Zarr 0.5 as this project writes it: one level, axes z, y, x, nanometres.

Specification: https://ngff.openmicroscopy.org/0.5/. A slice is one file (or a few, when it is
large), cut into compressed chunks inside, so that tiles and whole slices both read fast. It cannot
say that a voxel size is unknown: then the axes carry no unit and the scale is 1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from biosegment.geometry import VoxelSize

VERSION = "0.5"
_CHUNK_PX = 256
_SHARD_PX = 4096
_CODEC = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")


def create_image(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    voxel_size: VoxelSize | None,
    **metadata: object,
) -> None:
    """Make `group` an image: its empty array (z, y, x) and the metadata, with `metadata` added."""
    shard = (1, *(min(_SHARD_PX, math.ceil(size / _CHUNK_PX) * _CHUNK_PX) for size in shape[1:]))
    group.create_array(
        "0",
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=(1, _CHUNK_PX, _CHUNK_PX),
        shards=shard,
        filters=None,
        compressors=_CODEC,
        fill_value=0,
        dimension_names=("z", "y", "x"),
    )
    group.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [_multiscale(name, voxel_size)],
        **cast("Mapping[str, Any]", metadata),
    }


def image_array(group: zarr.Group, path: str = "") -> zarr.Array[Any]:
    """Return the full-resolution array of the image at `path` in a group."""
    return cast("zarr.Array[Any]", group[f"{path}/0".lstrip("/")])


def read_voxel_size(group: zarr.Group) -> VoxelSize | None:
    """Return the voxel size of an image made by :func:`create_image`."""
    ome = cast("Mapping[str, Any]", group.attrs["ome"])
    multiscale = ome["multiscales"][0]
    if "unit" not in multiscale["axes"][0]:
        return None
    return VoxelSize(*multiscale["datasets"][0]["coordinateTransformations"][0]["scale"])


def listed_labels(group: zarr.Group) -> tuple[str, ...]:
    """Return the names of the label images that an image group lists."""
    if "labels" not in group:
        return ()
    ome = cast("Mapping[str, Any]", group["labels"].attrs["ome"])
    return tuple(ome["labels"])


def list_labels(group: zarr.Group, names: Sequence[str]) -> None:
    """Make `names` the label images that an image group lists."""
    # The specification wants the version here too; readers refuse the whole image without it.
    index: dict[str, Any] = {"version": VERSION, "labels": sorted(names)}
    group.require_group("labels").attrs["ome"] = index


def _multiscale(name: str, voxel_size: VoxelSize | None) -> dict[str, Any]:
    unit = {"unit": "nanometer"} if voxel_size else {}
    scale = list(voxel_size.zyx) if voxel_size else [1.0, 1.0, 1.0]
    return {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        ],
    }
