"""OME-Zarr 0.5 as this project writes it: a pyramid of levels, axes z, y, x, nanometres.

Specification: https://ngff.openmicroscopy.org/0.5/. A slice is one file (or a few, when it is
large), cut into compressed chunks inside, so that tiles and whole slices both read fast. It cannot
say that a voxel size is unknown: then the axes carry no unit and the scale is 1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec

from biosegment.geometry import VoxelSize
from biosegment.pyramid import level_factors, level_shape

VERSION = "0.5"
_CHUNK_PX = 256
SHARD_PX: Final = 4096
"""Rows and columns that one file of a slice holds at most."""
# Encodes and decodes outside the interpreter, several times faster. With one thread the chunks of a
# shard lie in the same order every time, so that the same import gives the same files.
_READING = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
_PIPELINE = {**_READING, "threading.max_workers": 1}
_CODEC = BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")


def create_image(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    voxel_size: VoxelSize | None,
    **metadata: object,
) -> None:
    """Make `group` an image: the empty arrays (z, y, x) of its levels, metadata with `metadata`."""
    factors = level_factors(shape, voxel_size)
    for number, level in enumerate(factors):
        extent = level_shape(shape, level)
        sides = (min(SHARD_PX, math.ceil(size / _CHUNK_PX) * _CHUNK_PX) for size in extent[1:])
        group.create_array(
            str(number),
            shape=extent,
            dtype=np.dtype(dtype),
            chunks=(1, _CHUNK_PX, _CHUNK_PX),
            shards=(1, *sides),
            filters=None,
            compressors=_CODEC,
            fill_value=0,
            dimension_names=("z", "y", "x"),
        )
    group.attrs["ome"] = {
        "version": VERSION,
        "multiscales": [_multiscale(name, voxel_size, factors)],
        **cast("Mapping[str, Any]", metadata),
    }


def create_scratch(
    group: zarr.Group, path: str, shape: Sequence[int], file_shape: Sequence[int]
) -> None:
    """Make an empty array of bytes that is no image: (channel, z, y, x).

    `file_shape` is what one file holds; in it, a slice is read without those around it.
    """
    file_shape = [min(pair) for pair in zip(shape, file_shape, strict=True)]
    group.create_array(
        path,
        shape=tuple(shape),
        dtype=np.uint8,
        chunks=(1, 1, *file_shape[2:]),
        shards=tuple(file_shape),
        filters=None,
        compressors=_CODEC,
        fill_value=0,
    )


def open_array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    """Return the array at `path` in a group."""
    with zarr.config.set(_PIPELINE):
        return cast("zarr.Array[Any]", group[path])


def image_array(group: zarr.Group, path: str = "") -> zarr.Array[Any]:
    """Return the full-resolution array of the image at `path` in a group."""
    return open_array(group, f"{path}/0".lstrip("/"))


def image_levels(group: zarr.Group, path: str = "") -> list[zarr.Array[Any]]:
    """Return the arrays of all levels of the image at `path` in a group, the finest first.

    Those of a group that is open for reading only are decoded on all cores.
    """
    image = cast("zarr.Group", group[path]) if path else group
    ome = cast("Mapping[str, Any]", image.attrs["ome"])
    paths = [level["path"] for level in ome["multiscales"][0]["datasets"]]
    with zarr.config.set(_READING if group.read_only else _PIPELINE):
        return [cast("zarr.Array[Any]", image[path]) for path in paths]


def image_factors(group: zarr.Group, path: str = "") -> list[tuple[int, int, int]]:
    """Return by how much each level of an image is coarser than the first along z, y and x."""
    image = cast("zarr.Group", group[path]) if path else group
    ome = cast("Mapping[str, Any]", image.attrs["ome"])
    scales = [
        level["coordinateTransformations"][0]["scale"]
        for level in ome["multiscales"][0]["datasets"]
    ]
    ratios = [np.rint(np.divide(scale, scales[0])).astype(int).tolist() for scale in scales]
    return [(z, y, x) for z, y, x in ratios]


def label_colours(group: zarr.Group, path: str) -> dict[int, str]:
    """Return the colours, ``#rrggbb``, of the values of a label image that have one."""
    ome = cast("Mapping[str, Any]", group[path].attrs["ome"])
    told = ome.get("image-label", {}).get("colors", [])
    return {
        each["label-value"]: "#{:02x}{:02x}{:02x}".format(*each["rgba"])
        for each in told
        if "rgba" in each
    }


def read_voxel_size(group: zarr.Group) -> VoxelSize | None:
    """Return the voxel size of an image made by :func:`create_image`."""
    ome = cast("Mapping[str, Any]", group.attrs["ome"])
    multiscale = ome["multiscales"][0]
    if "unit" not in multiscale["axes"][0]:
        return None
    return VoxelSize(*multiscale["datasets"][0]["coordinateTransformations"][0]["scale"])


def write_voxel_size(group: zarr.Group, voxel_size: VoxelSize) -> None:
    """Set the voxel size of an image and, in proportion, of all its levels."""
    before = read_voxel_size(group)
    edges = before.zyx if before else (1.0, 1.0, 1.0)
    ome = cast("dict[str, Any]", group.attrs["ome"])
    multiscale = ome["multiscales"][0]
    for axis in multiscale["axes"]:
        axis["unit"] = "nanometer"
    for dataset in multiscale["datasets"]:
        for transformation in dataset["coordinateTransformations"]:
            # A scale or a translation: both are lengths.
            lengths = transformation[transformation["type"]]
            transformation[transformation["type"]] = [
                length / old * new
                for length, old, new in zip(lengths, edges, voxel_size.zyx, strict=True)
            ]
    group.attrs["ome"] = ome


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


def _multiscale(
    name: str, voxel_size: VoxelSize | None, factors: Sequence[Sequence[int]]
) -> dict[str, Any]:
    unit = {"unit": "nanometer"} if voxel_size else {}
    edges = voxel_size.zyx if voxel_size else (1.0, 1.0, 1.0)
    return {
        "name": name,
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _placed(edges, level)}
            for number, level in enumerate(factors)
        ],
    }


def _placed(edges: Sequence[float], factors: Sequence[int]) -> list[dict[str, Any]]:
    """Return how a level lies in space: a coarse voxel has its centre amid those it stands for."""
    scale = [edge * factor for edge, factor in zip(edges, factors, strict=True)]
    centre = [edge * (factor - 1) / 2 for edge, factor in zip(edges, factors, strict=True)]
    placed: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    return [*placed, {"type": "translation", "translation": centre}] if any(centre) else placed
