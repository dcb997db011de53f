"""What ``volume.json`` beside the slices of a volume tells of them; the export writes it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from biosegment.geometry import VoxelSize
from importers.attributes import label_names

_FILE = "volume.json"


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What slices themselves do not tell."""

    voxel_size: VoxelSize | None = None
    """None where unknown."""
    label_names: dict[int, str] = field(default_factory=dict)
    """What values mean."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return what is told in a folder; nothing if it is something else, or there is none."""
        try:
            told = json.loads((folder / _FILE).read_bytes())
            size, names = told["voxel_size_nm"], told.get("label_names", {})
            voxel_size = None if size is None else VoxelSize(*map(float, size))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return cls()
        return cls(voxel_size, label_names({"label_names": json.dumps(names)}))
