"""What a search for a better recipe measures on: annotated tiles as they were when it began."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment import __version__
from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import TooFewLabelsError
from ml_backend.dataset import LabelledTile
from ml_backend.training import TrainingSpec

FOLDS: Final = 3
MIN_TASKS: Final = 6
MIN_FOREGROUND: Final = 2

TILES: Final = "tiles.npz"
SETTINGS: Final = "settings.json"


@dataclass(frozen=True, slots=True, eq=False)
class TuningData:
    """The annotated tiles of a project, and the recipe that it is trained by."""

    spec: TrainingSpec
    """The recipe in use."""
    tasks: Sequence[Sequence[LabelledTile]]
    """Tiles of each annotated task; each has a known pixel."""
    annotations: Mapping[str, str]
    """Annotation id -> when it was last changed."""

    def check(self) -> None:
        """Raise unless there is enough to compare recipes on.

        Raises
        ------
        TooFewLabelsError
        """
        foreground = sum(map(_has_foreground, self.tasks))
        if len(self.tasks) < MIN_TASKS or foreground < MIN_FOREGROUND:
            raise TooFewLabelsError(len(self.tasks), foreground)

    def folds(self, seed: int) -> list[NDArray[np.intp]]:
        """Return which tasks are measured on in each fold.

        Each task is in one fold, for all tiles of a task show one place. Tasks with foreground are
        spread evenly, and no fold is without one: there are fewer folds when there are too few.

        Parameters
        ----------
        seed : int
            Of the shuffle.

        Returns
        -------
        list of ndarray of int, shape (tasks in the fold,)
        """
        foreground = np.array([_has_foreground(tiles) for tiles in self.tasks])
        rng = np.random.default_rng(seed)
        dealt = np.concatenate(
            [rng.permutation(np.flatnonzero(kind)) for kind in (foreground, ~foreground)]
        )
        count = min(FOLDS, int(foreground.sum()))
        return [dealt[first::count] for first in range(count)]

    def split(self, held_out: NDArray[np.intp]) -> tuple[list[LabelledTile], list[LabelledTile]]:
        """Return the tiles to train on when these tasks are held out, and the held-out tiles."""
        chosen = set(held_out.tolist())
        training: list[LabelledTile] = []
        validation: list[LabelledTile] = []
        for index, tiles in enumerate(self.tasks):
            (validation if index in chosen else training).extend(tiles)
        return training, validation

    def settings(self) -> dict[str, Any]:
        """Return, as JSON would give it back, what decides how the same recipes compare."""
        content = {
            "biosegment": __version__,
            "training": asdict(self.spec),
            "annotations": dict(self.annotations),
        }
        settings: dict[str, Any] = json.loads(json.dumps(content))
        return settings

    def save(self, folder: Path) -> None:
        """Write the tiles, then the settings, each the whole file or none.

        Raises
        ------
        DiskFullError
            When the disk takes no more.
        """
        arrays = {
            f"{task}-{tile}-{name}": array
            for task, tiles in enumerate(self.tasks)
            for tile, each in enumerate(tiles)
            for name, array in (("image", each.image), ("mask", each.mask))
        }
        with explain_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{TILES}"
            with partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            partial.replace(folder / TILES)
            write_atomically(folder / SETTINGS, json.dumps(self.settings(), indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> "TuningData":
        """Return what `save` wrote."""
        settings = json.loads((folder / SETTINGS).read_bytes())
        training = settings["training"]
        spec = TrainingSpec(
            **training
            | {"classes": tuple(training["classes"]), "widths": tuple(training["widths"])}
        )
        return cls(spec, list(_tiles(folder / TILES)), settings["annotations"])


def is_saved(folder: Path, data: TuningData) -> bool:
    """Return whether a folder holds exactly these annotations and this recipe."""
    path = folder / SETTINGS
    try:
        return bool(json.loads(path.read_bytes()) == data.settings())
    except (FileNotFoundError, ValueError):
        return False


def _tiles(path: Path) -> Iterator[list[LabelledTile]]:
    tasks: dict[int, list[LabelledTile]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            task, tile, kind = name.split("-")
            if kind == "image":
                mask = arrays[f"{task}-{tile}-mask"]
                tasks.setdefault(int(task), []).append(LabelledTile(arrays[name], mask))
    yield from tasks.values()


def _has_foreground(tiles: Sequence[LabelledTile]) -> bool:
    return any(tile.has_foreground for tile in tiles)
