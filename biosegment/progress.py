"""How long work reports how far it is."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called with ``(done, total)``, both counted in the same items; ``done == total`` at the end."""

Report: TypeAlias = Callable[[str, int, int], None]
"""Called with a stage's name and ``(done, total)`` in its own items."""


def ignore(done: int, total: int) -> None:
    """Drop the report: the default where nobody watches."""
