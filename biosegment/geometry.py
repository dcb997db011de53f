"""Where things lie in a volume: voxel sizes and axis-aligned regions, always in z, y, x order."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from biosegment.errors import BoxError, RegionError, VoxelSizeError

_NM_PER_UNIT = {
    "m": 1e9,
    "meter": 1e9,
    "cm": 1e7,
    "centimeter": 1e7,
    "mm": 1e6,
    "millimeter": 1e6,
    "um": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "angstrom": 0.1,
    "å": 0.1,
    "a": 0.1,
    "pm": 1e-3,
    "picometer": 1e-3,
    "inch": 2.54e7,
}
_EDGE = re.compile(r"\s*(\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?)\s*([^\W\d]*)\s*", re.IGNORECASE)
_RANGE = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*")
_SMALLEST_EDGE_NM, _LARGEST_EDGE_NM = 0.01, 1e5


def nm_per_unit(unit: str) -> float | None:
    r"""Return how many nanometres one `unit` of length has, None if it is not a length.

    Takes names and symbols in any case, both Unicode micro signs and ImageJ's escaped
    ``\u00B5m``. ``pixel`` is not a length.
    """
    # A lone "M" is not taken for metre by any writer met so far, so case carries no meaning.
    name = unit.strip().lower().replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u")
    return _NM_PER_UNIT.get(name)


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Edge lengths of a voxel in nanometres, each finite and above 0."""

    z: float
    """Distance of two slices, nm."""
    y: float
    """Distance of two rows, nm."""
    x: float
    """Distance of two columns, nm."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(edge) and edge > 0 for edge in self.zyx):
            raise ValueError(f"a voxel size must be finite and above 0 nm, got {self.zyx}")

    def __str__(self) -> str:
        return f"{self.z:g} x {self.y:g} x {self.x:g} nm"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``40,5,5nm`` says: z, y and x, in one unit or each in its own.

        Raises
        ------
        VoxelSizeError
            If it is not three lengths with a unit, or no voxel of a microscope.
        """
        parts = text.split(",")
        if len(parts) != 3:
            raise VoxelSizeError(text, f"these are {len(parts)} numbers, not 3")
        edges = [match.groups() for part in parts if (match := _EDGE.fullmatch(part))]
        if len(edges) != 3:
            raise VoxelSizeError(text, "these are no numbers")
        last_unit = edges[2][1]
        if not last_unit:
            raise VoxelSizeError(text, "it has no unit")
        units = [nm_per_unit(unit or last_unit) for _, unit in edges]
        if None in units:
            raise VoxelSizeError(text, "its unit is not known (known are nm, um, mm, A and pm)")
        try:
            size = cls(
                *(float(edge) * (nm or 0) for (edge, _), nm in zip(edges, units, strict=True))
            )
        except ValueError as exc:
            raise VoxelSizeError(text, "its edges must be above 0") from exc
        size.check_plausible()
        return size

    def check_plausible(self, where: str = "") -> None:
        """Raise VoxelSizeError for edges outside 0.01 nm to 100 µm: most likely a wrong unit.

        Parameters
        ----------
        where
            What says so, for the message; empty if the user did.
        """
        if min(self.zyx) < _SMALLEST_EDGE_NM or max(self.zyx) >= _LARGEST_EDGE_NM:
            reason = "an edge must be at least 0.01 nm and below 100 µm, so its unit may be wrong"
            raise VoxelSizeError(f"{self} {where}".rstrip(), reason)

    @property
    def zyx(self) -> tuple[float, float, float]:
        """Edge lengths in nm, in axis order."""
        return (self.z, self.y, self.x)


@dataclass(frozen=True, slots=True)
class Roi:
    """A box of voxels: its first corner and its extent, both in voxels."""

    z: int
    """First slice, from 0."""
    y: int
    """First row, from 0."""
    x: int
    """First column, from 0."""
    depth: int
    """Number of slices, at least 1."""
    height: int
    """Number of rows, at least 1."""
    width: int
    """Number of columns, at least 1."""

    def __post_init__(self) -> None:
        if min(self.z, self.y, self.x) < 0 or min(self.shape) < 1:
            raise ValueError(f"a region starts at 0 or above and holds a voxel, got {self}")

    def __str__(self) -> str:
        return ",".join(f"{part.start}:{part.stop}" for part in self.slices)

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """Return the region that covers a volume of this shape (z, y, x)."""
        depth, height, width = shape
        return cls(0, 0, 0, depth, height, width)

    @classmethod
    def slice_of(cls, shape: Sequence[int], z: int) -> Self:
        """Return the region of the whole slice `z` of a volume of this shape (z, y, x)."""
        return cls(z, 0, 0, 1, shape[1], shape[2])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        return (self.depth, self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of this region in an array of shape (z, y, x)."""
        return (
            slice(self.z, self.z + self.depth),
            slice(self.y, self.y + self.height),
            slice(self.x, self.x + self.width),
        )

    def check_within(self, shape: Sequence[int]) -> None:
        """Raise RegionError unless a volume of this shape (z, y, x) holds the whole region."""
        if any(part.stop > size for part, size in zip(self.slices, shape, strict=True)):
            raise RegionError(self, tuple(shape))


@dataclass(frozen=True, slots=True)
class Box:
    """A part of any volume: from and to along z, y and x, in voxels; None is its end."""

    ranges: tuple[tuple[int, int | None], tuple[int, int | None], tuple[int, int | None]]
    """First voxel, and the one after the last."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``0:10,:,100:600`` says: ranges along z, y and x, each end may be left out.

        Raises
        ------
        BoxError
            If it is not three ranges.
        """
        parts = [_RANGE.fullmatch(part) for part in text.split(",")]
        if len(parts) != 3:
            raise BoxError(text)
        ranges = [(int(part[1] or 0), int(part[2]) if part[2] else None) for part in parts if part]
        if len(ranges) != 3 or any(stop is not None and stop <= start for start, stop in ranges):
            raise BoxError(text)
        z, y, x = ranges
        return cls((z, y, x))

    def within(self, shape: Sequence[int]) -> Roi:
        """Return the part of a volume of this shape (z, y, x).

        Raises
        ------
        RegionError
            If the volume does not hold all of it.
        """
        stops = [
            size if stop is None else stop
            for (_, stop), size in zip(self.ranges, shape, strict=True)
        ]
        starts = [start for start, _ in self.ranges]
        extent = [stop - start for start, stop in zip(starts, stops, strict=True)]
        if min(extent) < 1:
            raise RegionError(self, tuple(shape))
        roi = Roi(*starts, *extent)
        roi.check_within(shape)
        return roi

    def __str__(self) -> str:
        return ",".join(f"{start}:{'' if stop is None else stop}" for start, stop in self.ranges)
