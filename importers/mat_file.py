"""What is read of a MAT file, of whichever version: arrays of numbers, and texts.

Objects and functions of MATLAB are never built; a variable that is one is refused.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from biosegment.errors import UnreadableFileError

MOST_TEXTS = 2**16
LONGEST_TEXT_BYTES = 2**16
MOST_NUMBERS = 2**10
NUMERIC = (
    *("double", "single", "logical"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
"""Classes of variables that are arrays of numbers."""


class MatFile(ABC):
    """An open MAT file."""

    path: Path
    """Where it lies."""

    @classmethod
    @abstractmethod
    def begins(cls, path: Path) -> bool:
        """Tell whether a file is of this version, by its first bytes."""

    @abstractmethod
    def __contains__(self, name: str) -> bool:
        """Tell whether there is a variable of that name."""

    @abstractmethod
    def array(self, name: str) -> Any:  # noqa: ANN401 (whatever gives an ndarray when indexed)
        """Return a variable with its axes reversed: columns, rows, … become …, rows, columns.

        Raises
        ------
        UnreadableFileError
            If it is no array of numbers, or its values are not all there.
        """

    @abstractmethod
    def texts(self, name: str) -> list[str]:
        """Return a text, or the texts in a cell array; empty ones for whatever is none."""

    @abstractmethod
    def numbers(self, name: str) -> list[float]:
        """Return the numbers of a small array; none if there is no such array."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def refused(self, name: str, kind: str) -> UnreadableFileError:
        """Return the error for a variable that is no array of numbers."""
        reason = f"its variable {name} is of class {kind}, not an array of numbers"
        return UnreadableFileError(str(self.path), reason)
