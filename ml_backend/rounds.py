"""What a round's annotations were compared with: counts of pixels, kept in the model's card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from biosegment.labels import UNKNOWN


@dataclass(frozen=True, slots=True)
class Overlap:
    """Prediction and annotation of one class in one tile, over the pixels that are known."""

    predicted: int
    """Pixels that the model gave the class."""
    annotated: int
    """Pixels that the expert gave it."""
    kept: int
    """Pixels that both did."""


Overlaps = Mapping[str, Overlap]
"""Name of a foreground class -> its pixels in one tile."""


@dataclass(frozen=True, slots=True)
class AnnotationRecord:
    """One annotation, when the first version learned from it."""

    annotation: str
    """Its id in Label Studio."""
    task: int
    """Its task's."""
    lead_time_s: float | None
    """Time the expert spent on it, in seconds; None where Label Studio does not know."""
    strategy: str | None
    """Query strategy that had ranked the task; None when no version served yet."""
    live: Overlaps | None = None
    """Against the prediction of the version's parent; None if that was not a test."""
    before: Overlaps | None = None
    """The same tile against the prediction of the parent's parent."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return a record from what ``dataclasses.asdict`` made of it.

        Raises
        ------
        TypeError, KeyError, AttributeError
            When it is none.
        """
        return cls(
            annotation=content["annotation"],
            task=content["task"],
            lead_time_s=content["lead_time_s"],
            strategy=content["strategy"],
            live=_overlaps(content["live"]),
            before=_overlaps(content["before"]),
        )


def _overlaps(content: Mapping[str, Any] | None) -> Overlaps | None:
    if content is None:
        return None
    return {name: Overlap(**counts) for name, counts in content.items()}


def overlaps(
    predicted: NDArray[np.uint8],
    predicted_names: Sequence[str],
    annotated: NDArray[np.uint8],
    names: Sequence[str],
) -> dict[str, Overlap]:
    """Return the pixels of every foreground class of `names`.

    Parameters
    ----------
    predicted : ndarray of uint8, shape (H, W)
        Integers of `predicted_names`.
    predicted_names : sequence of str
        Classes of the model, background first; matched by name, for a project may have others now.
    annotated : ndarray of uint8, shape (H, W)
        Integers of `names`, or `UNKNOWN`.
    names : sequence of str
        Classes of the project, background first.
    """
    known = annotated != UNKNOWN
    found = {}
    for index, name in enumerate(names[1:], start=1):
        theirs = annotated == index
        ours = np.zeros_like(known)
        if name in predicted_names:
            ours = (predicted == list(predicted_names).index(name)) & known
        counts = (int(np.count_nonzero(each)) for each in (ours, theirs, ours & theirs))
        found[name] = Overlap(*counts)
    return found
