"""Tiles that were exported to be labelled in another program, and how they find their way back.

A folder of exported tiles holds files of labels and ``tiles.json``, which says of which task each
is, where it lies in the volume, and what it was when it was written.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Self

from biosegment.disk import write_atomically
from biosegment.errors import TileExportError
from biosegment.geometry import Roi

TILES_FILE: Final = "tiles.json"
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ExportedTile:
    """The file of labels of one task."""

    task: int
    """Number of the task."""
    labels: str
    """Name of the file, or folder, in the folder of the export."""
    region: Roi
    """What it shows of the volume."""
    digest: str
    """Of the file as it was written."""


@dataclass(frozen=True, slots=True)
class TileExport:
    """What was exported, of one volume and project."""

    project: int
    """Number of the project."""
    volume: str
    """Name of the volume in the data root."""
    classes: Mapping[int, str]
    """What the values in the files mean."""
    dataset: str | None
    """Where in a file the labels are: a path; None for the only ones."""
    channel: int | None
    """Where in a file the labels are: a channel, from 0; None for the only one."""
    tiles: tuple[ExportedTile, ...]
    """In the order in which they are to be labelled."""

    def write(self, folder: Path) -> None:
        """Write ``tiles.json``; the folder exists."""
        write_atomically(folder / TILES_FILE, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``tiles.json``.

        Raises
        ------
        TileExportError
            If it is not one, or names files that are not in the folder.
        """
        try:
            found = json.loads((folder / TILES_FILE).read_bytes())
            classes = {int(value): str(name) for value, name in found["classes"].items()}
            tiles = tuple(_tile(each) for each in found["tiles"])
            place = {key: found[key] for key in ("dataset", "channel")}
            export = cls(int(found["project"]), str(found["volume"]), classes, **place, tiles=tiles)
        except OSError as exc:
            raise TileExportError(str(folder), f"{TILES_FILE} is missing ({exc})") from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            reason = f"{TILES_FILE} is not as it was written ({exc!r})"
            raise TileExportError(str(folder), reason) from exc
        for tile in export.tiles:
            if not (folder / tile.labels).exists():
                reason = f"{tile.labels} is missing; save the labels under their old name"
                raise TileExportError(str(folder), reason)
        return export


def _tile(found: Mapping[str, Any]) -> ExportedTile:
    name = str(found["labels"])
    if PurePath(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    region = Roi(**{key: int(value) for key, value in found["region"].items()})
    return ExportedTile(int(found["task"]), name, region, str(found["digest"]))


def digest(path: Path) -> str:
    """Return what tells a file, or a folder with all that is in it, from any other content."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    total = hashlib.sha256()
    for each in files:
        total.update(f"{each.relative_to(path).as_posix()}\0{each.stat().st_size}\0".encode())
        with each.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()
