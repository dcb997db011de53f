"""What the doctor finds: one sentence a check."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """In order."""
    WARNING = "warning"
    """It works, but somebody should know."""
    FAILURE = "failure"
    """It does not work until somebody does something."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    check: str
    """What was looked at."""
    level: Level
    """How bad it is."""
    sentence: str
    """What was found and, if it is not in order, what to do about it."""


def ok(check: str, sentence: str) -> Finding:
    """Return that something is in order."""
    return Finding(check, Level.OK, sentence)


def warning(check: str, sentence: str) -> Finding:
    """Return what somebody should know."""
    return Finding(check, Level.WARNING, sentence)


def failure(check: str, sentence: str) -> Finding:
    """Return what does not work."""
    return Finding(check, Level.FAILURE, sentence)
