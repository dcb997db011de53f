"""A project's own training recipe: what `biosegment tune` found to do better than the defaults."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import RecipeError
from ml_backend.training import TrainingSpec

RANGES: Final = {"learning_rate": (1e-6, 1.0), "dice_weight": (0.0, 10.0), "augmentation": (0, 3)}
"""What a recipe may hold: with an augmentation of 4 or more, contrast would be turned around."""
MAX_WIDTH: Final = 4096
MAX_LEVELS: Final = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """The fields of `TrainingSpec` that a search may change."""

    learning_rate: float
    widths: Sequence[int]
    dice_weight: float
    augmentation: float

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
        if not are_widths(self.widths):
            raise ValueError(
                f"widths must be 2 to {MAX_LEVELS} whole numbers from 1 to {MAX_WIDTH}, "
                f"not {self.widths!r}"
            )

    @classmethod
    def of(cls, spec: TrainingSpec) -> Self:
        """Return the recipe in a specification."""
        return cls(spec.learning_rate, tuple(spec.widths), spec.dice_weight, spec.augmentation)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the recipe in a file; None when there is no file.

        Raises
        ------
        RecipeError
            When the file does not hold a recipe that a training could follow.
        """
        try:
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict):
                raise TypeError("it must hold one object")
            expected = {field.name for field in fields(cls)}
            if set(content) != expected:
                raise ValueError(f"it must hold {', '.join(sorted(expected))}, and nothing else")
            recipe = cls(**content)
        except FileNotFoundError:
            return None
        except (TypeError, ValueError) as exc:
            raise RecipeError(str(path), str(exc)) from exc
        return replace(recipe, widths=tuple(recipe.widths))

    def write(self, path: Path) -> None:
        """Write the recipe as JSON, the whole file or none; its folder is made if missing.

        Raises
        ------
        DiskFullError
            When the disk takes no more.
        """
        with explain_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.to_json())

    def to_json(self) -> bytes:
        """Return what `write` writes."""
        return json.dumps(asdict(self), indent=2).encode()

    def applied_to(self, spec: TrainingSpec) -> TrainingSpec:
        """Return a specification with this recipe; steps and all else stay as they are."""
        return replace(spec, **asdict(self))


def are_widths(value: object) -> bool:
    """Tell whether these can be the widths of a network (`UNetSpec.widths`)."""
    return (
        isinstance(value, list | tuple)
        and 2 <= len(value) <= MAX_LEVELS
        and all(type(width) is int and 1 <= width <= MAX_WIDTH for width in value)
    )
