"""A named family whose members are imported only when one of them is asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

Member = TypeVar("Member")


class LazyRegistry(Mapping[str, Member], Generic[Member]):
    """Table from a name to the object that ``"module:attribute"`` names, loaded on first use.

    The table is written out as literal strings, so that what a family holds can be read in one
    place and importing the family imports none of its members.

    Parameters
    ----------
    targets : Mapping of str to str
        ``{"tiff": "importers.tiff:TiffReader"}``.

    Examples
    --------
    >>> shapes = LazyRegistry({"fraction": "fractions:Fraction"})
    >>> shapes["fraction"](1, 2)
    Fraction(1, 2)
    """

    def __init__(self, targets: Mapping[str, str]) -> None:
        self._targets = dict(targets)

    def __getitem__(self, name: str) -> Member:
        """Return the member; a KeyError lists the names there are."""
        try:
            target = self._targets[name]
        except KeyError:
            known = ", ".join(self._targets)
            raise KeyError(f"{name!r} is not one of: {known}") from None
        module, _, attribute = target.partition(":")
        return cast("Member", getattr(import_module(module), attribute))

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)
