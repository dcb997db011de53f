"""Which reader takes a file: by its ending first, then by its first bytes."""

from pathlib import Path
from typing import cast

from biosegment.errors import SourceNotFoundError, UnreadableFileError, UnsupportedFormatError
from importers import READERS
from importers.base import Choice, VolumeReader
from importers.chunk_store import is_address


def open_volume(source: Path | str, choice: Choice = Choice()) -> VolumeReader:  # noqa: B008 (frozen)
    """Open a volume with the reader that knows it.

    Parameters
    ----------
    source
        A file or folder, or an address: ``https://…`` or ``s3://…``.
    choice
        Which volume of those in it.

    Raises
    ------
    SourceNotFoundError
        If there is no such file or folder.
    SourceUnreachableError
        If an address cannot be followed.
    MissingExtraError
        If the library that the format or address needs is not installed.
    UnsupportedFormatError
        If no reader knows it; it names each reader and why it refused.
    ChoiceError
        If it holds several datasets and none of them was chosen.
    UnreadableFileError
        If a reader knows it but the file is damaged, or the system does not let it be read.
    """
    path = source if is_address(source) else Path(source)
    if isinstance(path, Path) and not path.exists():
        raise SourceNotFoundError(str(path))
    refusals = {}
    try:
        for name in _by_suffix(path):
            reader = READERS[name]
            if isinstance(path, str) and not reader.REMOTE:
                continue
            # Readers of addresses take both.
            reason = reader.refusal(cast("Path", path))
            if reason is None:
                return reader(path, choice)
            refusals[name] = reason
    except OSError as exc:
        raise UnreadableFileError(str(path), f"the system says: {exc.strerror or exc}") from exc
    raise UnsupportedFormatError(str(path), refusals)


def reader_name(reader: VolumeReader) -> str:
    """Return the name under which a reader stands in the table."""
    return next(name for name in READERS if READERS[name] is type(reader))


def _by_suffix(path: Path | str) -> list[str]:
    """Return the names of all readers, those with the longest matching suffix first."""
    file_name = Path(path).name.lower()

    def matched(name: str) -> int:
        suffixes = READERS[name].SUFFIXES
        return max((len(suffix) for suffix in suffixes if file_name.endswith(suffix)), default=0)

    return sorted(READERS, key=matched, reverse=True)
