"""Which of several images in a file is meant."""

from collections.abc import Iterable
from pathlib import Path

from biosegment.errors import ChoiceError, UnreadableFileError


def chosen_dataset(path: Path | str, names: Iterable[str], wanted: str | None) -> str:
    """Return the name of the image that was chosen, or of the only one.

    Raises
    ------
    ChoiceError
        If there are several and none was chosen, or one that is not there.
    UnreadableFileError
        If there is none.
    """
    known = tuple(names)
    if not known:
        raise UnreadableFileError(str(path), "it holds no image")
    if (wanted is None and len(known) > 1) or (wanted is not None and wanted not in known):
        raise ChoiceError(str(path), "dataset", known, wanted)
    return known[0] if wanted is None else wanted
