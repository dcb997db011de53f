"""The metadata of OME-Zarr images as other programs write them, versions 0.1 to 0.5.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.4/ (attributes of the group) and
   https://ngff.openmicroscopy.org/0.5/ (the same below ``ome``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from biosegment.geometry import VoxelSize, nm_per_unit
from importers.axes import LETTERS

_AXIS_OF_TYPE = {"time": "t", "channel": "c"}


@dataclass(frozen=True, slots=True)
class OmeImage:
    """What the attributes of a group tell of the image in it."""

    name: str
    """Empty where they do not tell."""
    axes: str
    """A letter of t, c, z, y, x for each axis; others stand as they are."""
    units_nm: tuple[float | None, ...]
    """Nanometres per unit of each axis, None for no length."""
    scales: Mapping[str, Sequence[float] | None]
    """Path of each level, the finest first, and its scale along each axis; None if it has none."""
    channel_names: tuple[str, ...]
    """Names of the channels as they are shown."""
    label_names: Mapping[int, str]
    """What values mean, if it is a label image that tells."""

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self | None:
        """Return the image that the attributes of a group describe, None if they describe none."""
        ome = ome_attributes(attributes)
        if not ome.get("multiscales"):
            return None
        # Of several, the specification calls the first one the default.
        multiscale = ome["multiscales"][0]
        if any("transform" in level for level in multiscale["datasets"]):
            # OpenOrganelle's, whose levels tell axes and scales themselves.
            return None
        axes = [
            {"name": axis} if isinstance(axis, str) else axis
            for axis in multiscale.get("axes", LETTERS)
        ]
        shared = _scale(multiscale)
        channels = ome.get("omero", {}).get("channels", ())
        return cls(
            name=str(multiscale.get("name") or ""),
            axes="".join(
                _AXIS_OF_TYPE.get(str(axis.get("type")), str(axis["name"]).lower()) for axis in axes
            ),
            units_nm=tuple(nm_per_unit(str(axis.get("unit", ""))) for axis in axes),
            scales={
                level["path"].strip("/"): _product(_scale(level), shared)
                for level in multiscale["datasets"]
            },
            channel_names=tuple(str(channel.get("label", "")) for channel in channels),
            label_names=_label_names(ome.get("image-label")),
        )

    def voxel_size(self, level: str) -> VoxelSize | None:
        """Return the voxel size of a level, None if it is absent, partial or impossible."""
        scale = self.scales[level]
        if scale is None or len(scale) != len(self.axes) or not set("zyx") <= set(self.axes):
            return None
        edges = [self.axes.index(axis) for axis in "zyx"]
        units = [self.units_nm[axis] for axis in edges]
        try:
            return VoxelSize(
                *(float(scale[axis]) * (nm or 0) for axis, nm in zip(edges, units, strict=True))
            )
        except (TypeError, ValueError):
            return None


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes that are OME-Zarr's: those below ``ome`` since version 0.5."""
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def _scale(described: Mapping[str, Any]) -> Sequence[float] | None:
    for transformation in described.get("coordinateTransformations") or ():
        if transformation.get("type") == "scale":
            scale: Sequence[float] | None = transformation.get("scale")
            return scale
    return None


def _label_names(described: object) -> dict[int, str]:
    """Return the ``name`` of values but for the background; programs may add what they like."""
    properties = described.get("properties") if isinstance(described, Mapping) else None
    return {
        each["label-value"]: each["name"]
        for each in properties or ()
        if isinstance(each.get("name"), str) and isinstance(each.get("label-value"), int)
        if each["name"] and each["label-value"]
    }


def _product(
    scale: Sequence[float] | None, shared: Sequence[float] | None
) -> Sequence[float] | None:
    if scale is None or shared is None:
        return scale
    return [own * common for own, common in zip(scale, shared, strict=True)]
