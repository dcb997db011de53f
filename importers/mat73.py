"""MAT files of version 7.3, which are HDF5.

References
----------
.. [1] MATLAB, "MAT-File Versions",
   https://www.mathworks.com/help/matlab/import_export/mat-file-versions.html
"""

from pathlib import Path
from typing import Any

import h5py

from biosegment.errors import UnreadableFileError
from importers.hdf5 import check_stored, open_hdf5
from importers.hdf5_attributes import hdf5_attributes
from importers.mat_file import LONGEST_TEXT_BYTES, MOST_NUMBERS, MOST_TEXTS, NUMERIC, MatFile

_EMPTY = "MATLAB_empty"


class Mat73File(MatFile):
    """A MAT file of version 7.3."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_hdf5(path)

    @classmethod
    def begins(cls, path: Path) -> bool:
        """Tell whether a file is of this version, by its first bytes."""
        return bool(h5py.is_hdf5(path))

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def array(self, name: str) -> Any:  # noqa: ANN401 (h5py has no types)
        """Return a variable with its axes reversed."""
        node = self._file[name]
        attributes = hdf5_attributes(self.path, node)
        kind = attributes.get("MATLAB_class")
        if not isinstance(node, h5py.Dataset):
            raise self.refused(name, str(kind or "struct"))
        if (kind is not None and kind not in NUMERIC) or node.dtype.kind not in "iufb":
            raise self.refused(name, str(kind or node.dtype))
        if attributes.get(_EMPTY):
            raise UnreadableFileError(str(self.path), f"its variable {name} is empty")
        check_stored(self.path, node)
        return node

    def texts(self, name: str) -> list[str]:
        """Return a text, or the texts in a cell array; empty ones for whatever is none."""
        node = self._file.get(name)
        if not isinstance(node, h5py.Dataset) or node.size is None or node.size > MOST_TEXTS:
            return []
        if h5py.check_ref_dtype(node.dtype) is not h5py.Reference:
            return [self._text(node)]
        check_stored(self.path, node)
        return [self._text(self._file[reference]) for reference in node[()].ravel()]

    def numbers(self, name: str) -> list[float]:
        """Return the numbers of a small array; none if there is no such array."""
        node = self._file.get(name)
        if not _is_small(node, "iuf", MOST_NUMBERS):
            return []
        check_stored(self.path, node)
        return [float(value) for value in node[()].ravel()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _text(self, node: Any) -> str:  # noqa: ANN401
        """Return a line of text, which is kept as UTF-16; nothing for whatever else it is."""
        if not _is_small(node, "u", LONGEST_TEXT_BYTES // 2) or _EMPTY in node.attrs:
            return ""
        if node.size != max(node.shape, default=0) or node.dtype.itemsize != 2:
            return ""
        check_stored(self.path, node)
        content: bytes = node[()].astype("<u2").tobytes()
        return content.decode("utf-16-le", "replace")


def _is_small(node: object, kinds: str, most: int) -> bool:
    return (
        isinstance(node, h5py.Dataset)
        and node.dtype.kind in kinds
        and node.size is not None
        and node.size <= most
    )
