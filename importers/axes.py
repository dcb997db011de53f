"""Which axes of an array in a file are z, y and x of a volume, and which hold channels or times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy.typing as npt

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice, describe_shape

LETTERS = "tczyx"
_NAMELESS = "-"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of an array in its own order; only z may be absent of those in space."""

    names: str
    """A letter of t, c, z, y, x for each axis, or - for one of extent 1 without a meaning."""
    sizes: tuple[int, ...]
    """Extent along each axis."""

    @classmethod
    def of(
        cls, path: Path | str, sizes: Sequence[int], names: str | None, order: str = "zyx"
    ) -> Self:
        """Return the axes of an array.

        Parameters
        ----------
        path
            The file, for errors.
        sizes
            Shape of the array.
        names
            The letter of each axis, None where the file does not tell. Then three axes are those
            of `order`, and more of them only if the others have an extent of 1.
        order
            The axes of a nameless array: ``zyx``, or ``xyz`` where x varies fastest.

        Raises
        ------
        UnreadableFileError
            If they make no volume.
        """
        shape = describe_shape(sizes)
        if min(sizes, default=0) < 1:
            raise UnreadableFileError(str(path), f"its array is empty ({shape})")
        if names is None:
            names = _named_by_position(sizes, order)
        if names is None:
            reason = (
                f"it does not tell which of its {len(sizes)} axes ({shape}) is which; save it "
                "with names of its axes, or as three axes z, y, x"
            )
            raise UnreadableFileError(str(path), reason)
        letters = names.replace(_NAMELESS, "")
        known = {"y", "x"} <= set(letters) <= set(LETTERS)
        if not known or len(set(letters)) < len(letters) or len(names) != len(sizes):
            reason = f"its axes are {names} ({shape}), not z, y, x, channels and times"
            raise UnreadableFileError(str(path), reason)
        return cls(names, tuple(sizes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent of the volume (z, y, x) in voxels."""
        return self.zyx(self.sizes, 1)

    def size(self, axis: str) -> int:
        """Return the extent along an axis; 1 if there is no such axis."""
        return self.sizes[self.names.index(axis)] if axis in self.names else 1

    def zyx(self, values: Sequence[T], absent: T) -> tuple[T, T, T]:
        """Return those of one value for each axis that belong to z, y and x."""
        of = dict(zip(self.names, values, strict=True))
        return (of.get("z", absent), of["y"], of["x"])

    def index(self, roi: Roi, choice: Choice) -> tuple[slice | int, ...]:
        """Return where a region of the chosen channel and time lies in the array."""
        place: dict[str, slice | int] = dict(zip("zyx", roi.slices, strict=True))
        place |= {"c": choice.channel or 0, "t": choice.time or 0, _NAMELESS: 0}
        return tuple(place[name] for name in self.names)

    def to_zyx(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what was read at :meth:`index` as (z, y, x)."""
        spatial = [name for name in self.names if name in "zyx"]
        block = block.transpose([spatial.index(name) for name in "zyx" if name in spatial])
        return block if "z" in spatial else block[None]


def _named_by_position(sizes: Sequence[int], order: str) -> str | None:
    """Return the names of nameless axes; of those of extent 1, the last ones mean nothing."""
    if len(sizes) == 2:
        return order.replace("z", "")
    spare = len(sizes) - len(order)
    ones = [axis for axis, size in enumerate(sizes) if size == 1]
    if not 0 <= spare <= len(ones):
        return None
    meaningless = ones[len(ones) - spare :]
    letters = iter(order)
    return "".join(
        _NAMELESS if axis in meaningless else next(letters) for axis in range(len(sizes))
    )
