"""The application that gunicorn serves: ``gunicorn ml_backend.wsgi:app``."""

from biosegment.log import configure_logging
from biosegment.settings import Settings
from ml_backend.app import create_app
from ml_backend.hardware import keep_memory

keep_memory()
_settings = Settings.from_env()
configure_logging(_settings.log_level, _settings.log_format)
app = create_app(_settings)
