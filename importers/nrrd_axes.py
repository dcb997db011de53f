"""What the axes of a NRRD header are, and how far apart its voxels lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize, nm_per_unit

_OF_SPACE = ("domain", "space")
_UNTOLD = ("???", "none")
# Spaces of the body, in which Slicer and ITK measure in millimetres; "-time" may follow.
_ANATOMICAL = (
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps", "scanner-xyz"),
)
# How far from a right angle two axes may be, as a part of their lengths' product.
_SKEW = 1e-3


def nrrd_axes(path: Path, header: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Return a letter of t, c, z, y, x for each axis, the slowest first, and their sizes.

    Raises
    ------
    UnreadableFileError
        If they are not two or three axes of space, and at most one of channels and one of time.
    """
    sizes = [int(size) for size in header["sizes"]]
    if header["dimension"] != len(sizes):
        reason = f"it says it has {header['dimension']} axes and gives {len(sizes)} sizes"
        raise UnreadableFileError(str(path), reason)
    axes = ""
    for axis in range(len(sizes)):
        axes += _letter(header, axis) or "xyz"[sum(map(axes.count, "xyz")) :][:1]
    if len(axes) < len(sizes) or not {"x", "y"} <= set(axes) or len(set(axes)) < len(axes):
        reason = (
            f"it has {len(sizes)} axes and not two or three of space, with at most one of time "
            "and one of channels; its field kinds should tell them apart"
        )
        raise UnreadableFileError(str(path), reason)
    return axes[::-1], tuple(sizes[::-1])


def _letter(header: Mapping[str, Any], axis: int) -> str:
    """Return t or c for an axis that is not of space, else nothing."""
    kinds: Sequence[str] = header.get("kinds", ())
    kind = kinds[axis].lower() if axis < len(kinds) else _UNTOLD[0]
    if kind in _UNTOLD:
        directions = header.get("space directions")
        placed = directions is None or np.isfinite(directions[axis]).all()
        return "" if placed else "c"
    return "" if kind in _OF_SPACE else "t" if kind == "time" else "c"


def nrrd_voxel_size(header: Mapping[str, Any], axes: str) -> VoxelSize | None:
    """Return the voxel size, None if lengths or their unit are absent or the axes skewed.

    Parameters
    ----------
    header
        As pynrrd gives it.
    axes
        What :func:`nrrd_axes` made of it.
    """
    if "z" not in axes:
        return None
    # The header counts from the fastest axis.
    places = [axes[::-1].index(axis) for axis in "zyx"]
    edges = _edges_by_directions(header, places) or _edges_by_spacings(header, places)
    try:
        return VoxelSize(*edges) if edges else None
    except ValueError:
        return None


def _edges_by_directions(header: Mapping[str, Any], places: Sequence[int]) -> list[float] | None:
    directions = header.get("space directions")
    if directions is None:
        return None
    steps: npt.NDArray[Any] = np.asarray(directions)[places]
    units = header.get("space units", ())
    nm = [_nm(header, units, column) for column in range(steps.shape[1])]
    if any(unit is None and steps[:, column].any() for column, unit in enumerate(nm)):
        return None
    steps = steps * [unit or 0.0 for unit in nm]
    products = steps @ steps.T
    edges: npt.NDArray[Any] = np.sqrt(np.diag(products))
    across = np.abs(products - np.diag(np.diag(products)))
    if not (across <= _SKEW * np.outer(edges, edges)).all():
        return None
    return [float(edge) for edge in edges]


def _edges_by_spacings(header: Mapping[str, Any], places: Sequence[int]) -> list[float] | None:
    spacings = header.get("spacings")
    if spacings is None:
        return None
    edges = [abs(float(spacings[place])) for place in places]
    nm = [_nm(header, header.get("units", ()), place) for place in places]
    return [edge * (unit or 0.0) for edge, unit in zip(edges, nm, strict=True)]


def _nm(header: Mapping[str, Any], units: Sequence[str], place: int) -> float | None:
    if place < len(units):
        return nm_per_unit(units[place])
    space = header.get("space", "").strip('"').lower().removesuffix("-time")
    return nm_per_unit("mm") if space in _ANATOMICAL else None
