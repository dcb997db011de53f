"""Attributes of HDF5 objects, read so that no damaged file takes the program down.

HDF5 keeps texts of variable length on a heap, and where that is damaged, the library may loop for
ever or end the process. So another process reads them.
"""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from biosegment.errors import UnreadableFileError
from importers.attributes import plain

_MOST_VALUES = 2**16
_PATIENCE_S = 15
_SCRIPT = """
import json, sys, h5py
path, place, *names = sys.argv[1:]
with h5py.File(path, locking="best-effort") as file:
    print(json.dumps({name: str(file[place].attrs[name]) for name in names}))
"""


def hdf5_attributes(path: Path, node: Any) -> dict[str, Any]:  # noqa: ANN401 (h5py has no types)
    """Return the numbers and texts among the attributes of a group or dataset.

    Parameters
    ----------
    path
        The file.
    node
        An open group or dataset of it.

    Raises
    ------
    UnreadableFileError
        If texts cannot be read.
    """
    attributes: dict[str, Any] = {}
    long_texts = []
    for name in node.attrs:
        attribute = node.attrs.get_id(name)
        if h5py.check_string_dtype(attribute.dtype) and attribute.dtype.kind == "O":
            long_texts += [name] if attribute.shape == () else []
        elif attribute.dtype.kind in "iufbS" and math.prod(attribute.shape or (0,)) <= _MOST_VALUES:
            attributes[name] = plain(node.attrs[name])
    return attributes | (_read_apart(path, node.name, long_texts) if long_texts else {})


def _read_apart(path: Path, place: str, names: Sequence[str]) -> dict[str, str]:
    command = [sys.executable, "-P", "-c", _SCRIPT, str(path), place, *names]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE_S)
        texts: dict[str, str] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as exc:
        raise UnreadableFileError(str(path), "its attributes are damaged") from exc
    return texts
