"""What libraries raise on bytes that make no sense, as one error that names the file."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import ParseError

from biosegment.errors import BioSegmentError, UnreadableFileError

_NONSENSE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    ParseError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def explain_damage(
    path: Path | str, *also: type[Exception], what: str = "it is damaged or cut off"
) -> Iterator[None]:
    """Turn what a library stumbles over into UnreadableFileError; our own errors stay.

    Parameters
    ----------
    path
        The file, or address, that is being read.
    *also
        Exceptions of the library that derive from none of Python's usual ones.
    what
        The reason to give, before the library's own words.
    """
    nonsense: tuple[type[Exception], ...] = (*_NONSENSE, *also)
    try:
        yield
    except BioSegmentError:
        raise
    except nonsense as exc:
        words = " ".join(f"{exc}".split())[:200] or type(exc).__name__
        raise UnreadableFileError(str(path), f"{what} ({words})") from exc
