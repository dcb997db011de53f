"""Which reader takes a file: by its ending first, then by its first bytes."""

from pathlib import Path

from biosegment.errors import SourceNotFoundError, UnreadableFileError, UnsupportedFormatError
from importers import READERS
from importers.base import Choice, VolumeReader


def open_volume(path: Path, choice: Choice = Choice()) -> VolumeReader:  # noqa: B008 (frozen)
    """Open a volume file or folder with the reader that knows it.

    Parameters
    ----------
    path
        A file or folder.
    choice
        Which volume of those in it.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at `path`.
    UnsupportedFormatError
        If no reader knows it; it names each reader and why it refused.
    ChoiceError
        If it holds several datasets and none of them was chosen.
    UnreadableFileError
        If a reader knows it but the file is damaged, or the system does not let it be read.
    """
    if not path.exists():
        raise SourceNotFoundError(str(path))
    refusals = {}
    try:
        for name in _by_suffix(path):
            reader = READERS[name]
            reason = reader.refusal(path)
            if reason is None:
                return reader(path, choice)
            refusals[name] = reason
    except OSError as exc:
        raise UnreadableFileError(str(path), f"the system says: {exc.strerror or exc}") from exc
    raise UnsupportedFormatError(str(path), refusals)


def reader_name(reader: VolumeReader) -> str:
    """Return the name under which a reader stands in the table."""
    return next(name for name in READERS if READERS[name] is type(reader))


def _by_suffix(path: Path) -> list[str]:
    """Return the names of all readers, those with the longest matching suffix first."""
    file_name = path.name.lower()

    def matched(name: str) -> int:
        suffixes = READERS[name].SUFFIXES
        return max((len(suffix) for suffix in suffixes if file_name.endswith(suffix)), default=0)

    return sorted(READERS, key=matched, reverse=True)
