"""The application that gunicorn serves: ``gunicorn ml_backend.wsgi:app``."""

from flask import Flask
from gunicorn.errors import AppImportError  # type: ignore[import-untyped]

from biosegment.errors import BioSegmentError
from biosegment.log import configure_logging
from biosegment.settings import Settings
from ml_backend.app import create_app
from ml_backend.hardware import keep_memory


def _application() -> Flask:
    try:
        settings = Settings.from_env()
        configure_logging(settings.log_level, settings.log_format)
        return create_app(settings)
    except BioSegmentError as exc:
        # gunicorn prints no more of this one than its sentence, and ends.
        raise AppImportError(f"Error: {exc}") from None


keep_memory()
app = _application()
