"""What programs write beside an array in HDF5, Zarr and N5: axes, voxel sizes, remarks.

References
----------
.. [1] vigra and ilastik: ``axistags``, JSON with a key for each axis.
.. [2] ImageJ's HDF5 plugin and ilastik: ``element_size_um``, the edges z, y, x in micrometres.
.. [3] CREMI, https://cremi.org/data/: ``resolution`` and ``offset`` in nanometres, z, y, x; in N5
   the same names are used for x, y, z.
.. [4] n5-viewer, https://github.com/saalfeldlab/n5-viewer: ``pixelResolution`` of the full
   resolution and ``downsamplingFactors``, x, y, z.
.. [5] COSEM, https://openorganelle.janelia.org: ``transform``, with axes, scale and units.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biosegment.geometry import VoxelSize, nm_per_unit
from importers.axes import LETTERS

Attributes = Mapping[str, Any]
_MOST_TEXTS = 50
_LONGEST_TEXT = 200
_NO_REMARKS = {
    *("axistags", "_ARRAY_DIMENSIONS", "axes", "dimensions", "blockSize", "dataType"),
    "label_names",
}


def plain(value: object) -> Any:  # noqa: ANN401 (any of JSON)
    """Return a value of an attribute without NumPy types and bytes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return decoded(value) if isinstance(value, bytes) else value


def decoded(text: bytes) -> str:
    """Return a text in UTF-8, or else in Latin-1, as micro signs often are."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def axis_names(attributes: Attributes, count: int) -> str | None:
    """Return a letter of t, c, z, y, x for each of `count` axes, None if they do not tell."""
    if "axistags" in attributes:
        names = [axis["key"] for axis in json.loads(attributes["axistags"])["axes"]]
        return letters(names, count)
    return letters(attributes.get("_ARRAY_DIMENSIONS") or attributes.get("axes") or (), count)


def letters(names: Sequence[object], count: int) -> str | None:
    """Return the names of `count` axes in one word, None if they are not all of t, c, z, y, x."""
    joined = "".join(str(name).lower() for name in names)
    return joined if len(names) == len(joined) == count and set(joined) <= set(LETTERS) else None


def voxel_size(attributes: Attributes, names: str) -> VoxelSize | None:
    """Return the voxel size that attributes tell, None if it is absent, partial or impossible.

    Parameters
    ----------
    attributes
        Of the array, :func:`plain`.
    names
        The letters of its axes in order.
    """
    try:
        edges = _edges_nm(attributes, names)
        return VoxelSize(*(edges[axis] for axis in "zyx")) if edges else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def label_names(attributes: Attributes) -> dict[int, str]:
    """Return what values mean by the JSON in ``label_names``; nothing if it is something else."""
    try:
        told = json.loads(attributes.get("label_names", "{}"))
        names = {int(value): name for value, name in told.items() if isinstance(name, str) and name}
    except (AttributeError, TypeError, ValueError):
        return {}
    return {value: name for value, name in names.items() if value}


def texts(attributes: Attributes) -> dict[str, str]:
    """Return remarks as text: words, numbers and short lists of numbers."""
    kept = {
        name: text
        for name, value in attributes.items()
        if name not in _NO_REMARKS and (text := _text(value))
    }
    return dict(list(kept.items())[:_MOST_TEXTS])


def _edges_nm(attributes: Attributes, names: str) -> dict[str, float] | None:
    if "element_size_um" in attributes:
        return _by_axis(attributes["element_size_um"], "zyx", ["um"])
    if "transform" in attributes:
        transform = attributes["transform"]
        return _by_axis(transform["scale"], "".join(transform["axes"]), transform["units"])
    spatial = "".join(name for name in names if name in "zyx")
    if "pixelResolution" in attributes:
        resolution = attributes["pixelResolution"]
        edges = _by_axis(resolution["dimensions"], spatial, [resolution["unit"]])
    elif "resolution" in attributes:
        resolution = attributes["resolution"]
        units = attributes.get("units") or [attributes.get("unit") or "nm"]
        edges = _by_axis(resolution, names if len(resolution) == len(names) else spatial, units)
    else:
        return None
    factors = attributes.get("downsamplingFactors") or [1] * len(spatial)
    return {axis: edges[axis] * factor for axis, factor in zip(spatial, factors, strict=True)}


def _by_axis(values: Sequence[float], names: str, units: Sequence[str]) -> dict[str, float]:
    """Return lengths in nm by axis, those in space; `units` are one for all or one for each."""
    units = units if len(units) > 1 else [*units] * len(names)
    return {
        name: float(value) * nm
        for name, value, unit in zip(names, values, units, strict=True)
        if name in "zyx" and (nm := nm_per_unit(unit)) is not None
    }


def _text(value: object) -> str | None:
    if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
        value = ", ".join(f"{item:g}" for item in value)
    text = " ".join(f"{value}".split()) if isinstance(value, str | int | float) else ""
    return text if len(text) <= _LONGEST_TEXT else None
