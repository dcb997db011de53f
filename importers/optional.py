"""Libraries that only an optional extra installs."""

from importlib import import_module
from types import ModuleType

from biosegment.errors import MissingExtraError


def optional_module(name: str, wanted_for: str, extra: str) -> ModuleType:
    """Return a module, imported now.

    Parameters
    ----------
    name
        Of the module, with its package.
    wanted_for
        The file or format that cannot be read without it.
    extra
        The optional extra of the package that brings it.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        raise MissingExtraError(wanted_for, extra) from exc
