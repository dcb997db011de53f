"""Logging of the processes that BioSegment starts; called by the command line, wsgi and worker."""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

FORMATS: Final = ("text", "json")
"""What ``BIOSEGMENT_LOG_FORMAT`` may be."""

_ids: ContextVar[Mapping[str, object] | None] = ContextVar("ids", default=None)


def set_ids(**ids: object) -> None:
    """Say what this thread works on from now on; it stands in every line that is logged here.

    Parameters
    ----------
    **ids
        ``project`` and ``job``, and whatever else identifies the work. None leaves one out; no
        argument at all says that the work is over.
    """
    _ids.set({name: value for name, value in ids.items() if value is not None})


def configure_logging(level: str, log_format: str = "text") -> None:
    """Log to standard error, one line a message; libraries only from WARNING on.

    Parameters
    ----------
    level
        Least severe message of our own packages.
    log_format
        One of `FORMATS`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for package in ("biosegment", "importers", "exporters", "ml_backend"):
        logging.getLogger(package).setLevel(level)
    # gunicorn has handlers of its own; its lines shall look like ours.
    for name in ("gunicorn.error", "gunicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    if log_format == "json":
        logging.captureWarnings(True)
        sys.excepthook = lambda *exc: logging.getLogger(__name__).critical("stopped", exc_info=exc)


class TextFormatter(logging.Formatter):
    """``2026-11-22 10:15:30,120 INFO ml_backend.loop [project=3 job=turn-3-…]: …``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(ids)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, without an exception."""
        ids = " ".join(f"{name}={value}" for name, value in (_ids.get() or {}).items())
        record.ids = f" [{ids}]" if ids else ""
        # No line of a text that came from outside can be taken for one of ours.
        record.message = "\n    ".join(record.message.splitlines())
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object: ``time``, ``level``, ``logger``, ``message``, ids, and ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object, on one line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(_ids.get() or {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)
